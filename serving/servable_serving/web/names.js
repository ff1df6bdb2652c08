// The names of a model's classes: `:predict` gives only that of the likeliest class.
//
// The same images are sent to `classify`, which gives names and scores, and to `serving_bytes`, which
// gives class numbers and scores. Where scores differ clearly, they show which name has which number.

import { context, make } from "./dom.js"
import { base64, snapshot } from "./image.js"

/** @import { Api, Prediction } from "./api.js" */

const PROBES = 8
const SIDE = 32

// Two scores within this relative difference count as equal.
const TOLERANCE = 1e-3

/**
 * @param {Pick<Api, "predict" | "classify">} api
 * @param {string} model
 * @param {number} version
 * @returns {Promise<(string | undefined)[]>} By class number.
 */
export async function findNames(api, model, version) {
  const probes = await Promise.all(Array.from({ length: PROBES }, (_, i) => probe(i)))
  const [named, numbered] = await Promise.all([
    api.classify(model, version, probes),
    api.predict(
      model,
      version,
      "serving_bytes",
      probes.map((b64) => ({ b64 })),
    ),
  ])
  return matchNames(named, numbered)
}

/**
 * @param {[string, number][][]} named For each image names and scores, the best first.
 * @param {Pick<Prediction, "probabilities">[]} numbered For each image scores by class number.
 * @returns {(string | undefined)[]} By class number; undefined if no image tells, or they
 *   contradict each other.
 */
export function matchNames(named, numbered) {
  /** @type {Set<string>[]} */
  const found = numbered[0].probabilities.map(() => new Set())
  named.forEach((ranked, i) => {
    const numbers = [...numbered[i].probabilities.entries()].sort(([, a], [, b]) => b - a)
    if (numbers.length !== ranked.length) return
    if (numbers.some(([, score], rank) => !equal(score, ranked[rank][1]))) return
    numbers.forEach(([number, score], rank) => {
      const neighbours = [numbers[rank - 1], numbers[rank + 1]].filter(Boolean)
      const distinct = neighbours.every(
        ([, other]) => Math.abs(other - score) > 4 * TOLERANCE * Math.max(other, score),
      )
      if (distinct) found[number].add(ranked[rank][0])
    })
  })
  return found.map((names) => (names.size === 1 ? [...names][0] : undefined))
}

/**
 * @param {number} a
 * @param {number} b
 */
function equal(a, b) {
  return Math.abs(a - b) <= TOLERANCE * Math.max(a, b) + 1e-7
}

/**
 * Grey squares, of which no model is certain, so that its scores differ from each other.
 * @param {number} seed
 * @returns {Promise<string>} A PNG in base64.
 */
async function probe(seed) {
  const canvas = make("canvas", { width: SIDE, height: SIDE })
  const pen = context(canvas)
  let state = seed + 1
  for (let i = 0; i < 16; i++) {
    state = (state * 48271) % 2147483647
    const grey = state % 256
    pen.fillStyle = `rgb(${grey} ${grey} ${grey})`
    pen.fillRect((i % 4) * 8, Math.floor(i / 4) * 8, 8, 8)
  }
  return base64((await snapshot(canvas, "probe", "image/png")).blob)
}
