// The state of the page: the image, what the user decided about it, what went wrong. No DOM.

/** @import { Failure } from "./failure.js" */
/** @import { LoadedImage } from "./image.js" */

/**
 * An image that was classified, and can be shown again.
 * @typedef {object} Entry
 * @property {LoadedImage} image
 * @property {boolean | undefined} inversion What the user chose for it.
 */
/**
 * How the history changed, for a view that keeps the elements it has.
 * @typedef {object} Change
 * @property {Entry} entry The new first one.
 * @property {number} replaced Where the one was that it replaces, or -1.
 * @property {boolean} dropped Whether the oldest one was dropped.
 */

const HISTORY = 16

export class Store {
  /** @type {LoadedImage | null} */
  image = null
  /** What the user chose for this image; undefined: as the signature does it.
   * @type {boolean | undefined} */
  inversion = undefined
  /** @type {Failure | null} */
  failure = null
  /** Whether the user asked to enter an API key. */
  keyWanted = false
  /** How many final images were classified. */
  classified = 0
  /** The newest first. @type {Entry[]} */
  history = []

  /**
   * @param {LoadedImage} image
   * @param {boolean} [inversion] What was chosen for it earlier.
   */
  show(image, inversion) {
    // A drawing that grows, and a camera that goes on, keep what was chosen.
    const same = image.series !== undefined && image.series === this.image?.series
    if (!same) this.inversion = inversion
    this.image = image
  }

  /**
   * Put an image at the front of the history, in place of an earlier state of the same series.
   * @param {LoadedImage} image
   * @returns {Change}
   */
  remember(image) {
    const entry = { image, inversion: this.inversion }
    // Not only the first: the answer to an earlier image may come late.
    const replaced = this.history.findIndex(
      (other) => image.series !== undefined && other.image.series === image.series,
    )
    if (replaced >= 0) this.history.splice(replaced, 1)
    this.history.unshift(entry)
    const dropped = this.history.length > HISTORY
    if (dropped) this.history.pop()
    return { entry, replaced, dropped }
  }
}
