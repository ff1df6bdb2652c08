// Values that several tests need.

/** @import { Answer } from "../../../serving/servable_serving/web/answers.js" */
/** @import { LoadedImage } from "../../../serving/servable_serving/web/image.js" */
/** @import { Shape, Sight } from "../../../serving/servable_serving/web/see.js" */

/**
 * @param {string} name
 * @param {string} [series]
 * @returns {LoadedImage}
 */
export function image(name, series) {
  const data = /** @type {ImageData} */ ({
    data: new Uint8ClampedArray(4),
    width: 1,
    height: 1,
    colorSpace: "srgb",
  })
  return { name, series, data, about: "1 × 1", blob: new Blob(["file"], { type: "image/png" }) }
}

/**
 * @param {number[]} pixels
 * @param {Shape} shape
 * @returns {Sight}
 */
export function sight(pixels, shape) {
  return { pixels: Uint8ClampedArray.from(pixels), shape, light: false, automatic: false, inverted: false }
}

/**
 * @param {Partial<Answer>} [values]
 * @returns {Answer}
 */
export function answer(values) {
  return {
    version: 1,
    names: ["Bag", "Coat"],
    probabilities: [0.25, 0.75],
    classId: 1,
    label: "Coat",
    elapsed: 4,
    ...values,
  }
}
