// Whether a model's `serving_bytes` inverts grey images with a light border: metadata does not tell.
//
// The same light image is sent as a file, and as pixels in both ways: one of these answers is that of
// the file.

import { context, make } from "./dom.js"
import { base64, snapshot } from "./image.js"
import { nested, see } from "./see.js"

/** @import { Api, Prediction } from "./api.js" */
/** @import { Shape } from "./see.js" */

const SIDE = 32

/**
 * @param {Pick<Api, "predict">} api
 * @param {string} model
 * @param {number} version
 * @param {Shape} shape
 * @returns {Promise<boolean>}
 */
export async function findInversion(api, model, version, shape) {
  const image = await probe()
  const ways = [false, true].map((invert) => nested(see(image.data, shape, { invert })))
  const [[ofFile], [asItIs, inverted]] = await Promise.all([
    api.predict(model, version, "serving_bytes", [{ b64: await base64(image.blob) }]),
    api.predict(model, version, "serving_default", ways),
  ])
  return isInverted(ofFile, asItIs, inverted)
}

/**
 * @param {Pick<Prediction, "probabilities">} ofFile
 * @param {Pick<Prediction, "probabilities">} asItIs
 * @param {Pick<Prediction, "probabilities">} inverted
 */
export function isInverted(ofFile, asItIs, inverted) {
  return distance(ofFile, inverted) <= distance(ofFile, asItIs)
}

/**
 * @param {Pick<Prediction, "probabilities">} a
 * @param {Pick<Prediction, "probabilities">} b
 */
function distance(a, b) {
  return a.probabilities.reduce((sum, share, i) => sum + Math.abs(share - b.probabilities[i]), 0)
}

/** A dark shape on white, larger at one side. */
async function probe() {
  const canvas = make("canvas", { width: SIDE, height: SIDE })
  const pen = context(canvas)
  pen.fillStyle = "rgb(255 255 255)"
  pen.fillRect(0, 0, SIDE, SIDE)
  pen.fillStyle = "rgb(20 20 20)"
  pen.fillRect(6, 8, 18, 8)
  pen.fillRect(8, 14, 6, 12)
  return snapshot(canvas, "probe", "image/png")
}
