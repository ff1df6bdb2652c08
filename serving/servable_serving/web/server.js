// What is known of the server, polled while the page is visible.

import { Failure } from "./failure.js"
import { findInversion } from "./inversion.js"
import { findNames } from "./names.js"

/** @import { Api, Description, Version } from "./api.js" */
/** @import { Shape } from "./see.js" */

/**
 * Which version is to predict: `newest`, `label:NAME` or `version:NUMBER`.
 * @typedef {string} Target
 */

/** Milliseconds between polls, by the kind of failure. @type {Record<string, number>} */
const INTERVALS = { none: 4000, unreachable: 1500, key: 15_000 }

// Less often: a request for a label that does not exist counts as an error in the server's metrics.
const MISSING_LABEL_INTERVAL = 30_000

// TensorFlow Serving does not list labels: each name is asked for.
const LABELS = ["stable", "canary"]

export class Server extends EventTarget {
  /** @type {Failure | null} */
  failure = null
  /** @type {Version[]} */
  versions = []
  /** @type {Map<string, number>} */
  labels = new Map()
  /** @type {Description | null} */
  newest = null
  /** The time of the last response. */
  seen = new Date(0)

  /** What was found out of a version, by MODEL/VERSION. @type {Map<string, Promise<any>>} */
  #names = new Map()
  /** @type {Map<string, Promise<any>>} */
  #inversions = new Map()
  /** When each label that does not exist was last asked for. @type {Map<string, number>} */
  #missing = new Map()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  #round = 0

  /**
   * @param {Pick<Api, "status" | "metadata" | "predict" | "classify">} api
   * @param {string} model
   * @param {string[]} labels Labels to ask for, besides the usual ones.
   * @param {Pick<Document, "hidden" | "addEventListener">} page No requests while it is hidden.
   */
  constructor(api, model, labels, page = document) {
    super()
    this.api = api
    this.page = page
    this.model = model
    this.wanted = [...new Set([...LABELS, ...labels])]
    page.addEventListener("visibilitychange", () => {
      if (!page.hidden) void this.look()
    })
  }

  /** @param {string} model */
  async turnTo(model) {
    this.model = model
    this.versions = []
    this.labels = new Map()
    this.newest = null
    await this.look()
  }

  /** Ask now, dispatch `change`, and ask again after an interval. */
  async look() {
    clearTimeout(this.#timer)
    const round = ++this.#round
    const found = await this.#ask()
    if (round !== this.#round) return // a later one has begun meanwhile
    Object.assign(this, found)
    this.dispatchEvent(new Event("change"))
    this.#timer = setTimeout(
      () => {
        if (!this.page.hidden) void this.look()
      },
      INTERVALS[this.failure?.kind ?? "none"] ?? INTERVALS.none,
    )
  }

  async #ask() {
    const model = this.model
    try {
      const versions = await this.api.status(model)
      if (!versions.some(({ state }) => state === "AVAILABLE")) throw nothingAvailable(model, versions)
      const newest = await this.api.metadata(model)
      if (JSON.stringify(versions) !== JSON.stringify(this.versions)) this.#missing.clear()
      const wanted = this.wanted.filter(
        (label) => Date.now() > (this.#missing.get(label) ?? 0) + MISSING_LABEL_INTERVAL,
      )
      const labels = await Promise.all(
        wanted.map(async (label) => {
          try {
            const { version } = await this.api.metadata(model, `/labels/${encodeURIComponent(label)}`)
            return /** @type {[string, number]} */ ([label, version])
          } catch (error) {
            if (!(error instanceof Failure && ["missing", "rejected"].includes(error.kind))) throw error
            this.#missing.set(label, Date.now())
            return null
          }
        }),
      )
      const given = labels.filter((entry) => entry !== null)
      return { failure: null, versions, newest, labels: new Map(given), seen: new Date() }
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      return error.kind === "missing" ? { failure: error, versions: [] } : { failure: error }
    }
  }

  /** The model's input, or null if it has no signature for images. */
  get shape() {
    const dims = this.newest?.signatures.serving_default?.inputs?.image?.tensor_shape?.dim
    const sizes = (dims ?? []).map((/** @type {any} */ dim) => Number(dim.size))
    const [, height, width, channels = 1] = sizes
    const known = sizes.length >= 3 && height > 0 && width > 0 && [1, 3].includes(channels)
    return known ? /** @type {Shape} */ ({ height, width, channels }) : null
  }

  /** Whether the model takes images; null if that is not known yet. */
  get classifies() {
    return this.newest && this.shape !== null
  }

  get available() {
    return this.versions.filter(({ state }) => state === "AVAILABLE").map(({ number }) => number)
  }

  /**
   * The version that a target currently refers to.
   * @param {Target} target
   */
  resolve(target) {
    const [kind, name] = target.split(/:(.*)/s)
    const version =
      kind === "label" ? this.labels.get(name) : kind === "version" ? Number(name) : this.newest?.version
    if (version === undefined) {
      throw this.failure ?? new Failure("missing", `No version is labelled ${name}.`, "Choose another.")
    }
    return version
  }

  /**
   * @param {number} version
   * @returns {Promise<(string | undefined)[]>} By class number; empty if they cannot be found out.
   */
  async names(version) {
    return this.#found(this.#names, version, () => findNames(this.api, this.model, version), [])
  }

  /** @returns {Promise<boolean>} Whether the newest version inverts grey files with a light border. */
  async inverts() {
    const { newest, shape } = this
    if (!newest?.signatures.serving_bytes || shape?.channels !== 1) return true
    const { version } = newest
    const find = () => findInversion(this.api, this.model, version, shape)
    return this.#found(this.#inversions, version, find, true)
  }

  /**
   * What requests show of a version, which are made once.
   * @template T
   * @param {Map<string, Promise<T>>} kept
   * @param {number} version
   * @param {() => Promise<T>} find
   * @param {T} otherwise If it cannot be found out.
   */
  async #found(kept, version, find, otherwise) {
    const at = `${this.model}/${version}`
    const finding = kept.get(at) ?? find()
    kept.set(at, finding)
    try {
      return await finding
    } catch (error) {
      // A model without a signature will not get one; a server that is unreachable may come back.
      const lasting = error instanceof Failure && ["rejected", "missing"].includes(error.kind)
      if (!lasting) kept.delete(at)
      return otherwise
    }
  }
}

/**
 * @param {string} model
 * @param {Version[]} versions
 */
function nothingAvailable(model, versions) {
  const reason = versions.find(({ error }) => error)?.error
  return new Failure(
    "unreachable",
    `No version of ${model} is available${reason ? `: ${reason}` : "."}`,
    "Wait until a version is loaded. Retrying; the page will resume automatically.",
  )
}
