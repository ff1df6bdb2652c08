// The names of a model's classes, of which `:predict` tells the likeliest alone.
//
// The same pictures asked for with `classify`, which gives names, and with `serving_bytes`, which
// gives class numbers: where no two scores are alike, they tell which is which.

import { context, make } from "./dom.js"
import { base64, snapshot } from "./picture.js"

/** @import { Api } from "./api.js" */

const PROBES = 8
const SIDE = 32

// Two scores nearer than this, by their own size, are not told apart.
const APART = 1e-3

/**
 * @param {Api} api
 * @param {string} model
 * @param {number} version
 * @returns {Promise<(string | undefined)[]>} By class number.
 */
export async function learn(api, model, version) {
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
  /** @type {Set<string>[]} */
  const found = numbered[0].probabilities.map(() => new Set())
  named.forEach((ranked, i) => {
    const numbers = [...numbered[i].probabilities.entries()].sort(([, a], [, b]) => b - a)
    if (numbers.length !== ranked.length) return
    if (numbers.some(([, score], rank) => !alike(score, ranked[rank][1]))) return
    numbers.forEach(([number, score], rank) => {
      const neighbours = [numbers[rank - 1], numbers[rank + 1]].filter(Boolean)
      const alone = neighbours.every(
        ([, other]) => Math.abs(other - score) > 4 * APART * Math.max(other, score),
      )
      if (alone) found[number].add(ranked[rank][0])
    })
  })
  return found.map((names) => (names.size === 1 ? [...names][0] : undefined))
}

/**
 * @param {number} a
 * @param {number} b
 */
function alike(a, b) {
  return Math.abs(a - b) <= APART * Math.max(a, b) + 1e-7
}

/**
 * Blots of grey, of which a model is sure of none, so that its scores differ from each other.
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
