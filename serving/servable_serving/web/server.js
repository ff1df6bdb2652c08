// What is known of the server: asked again and again while somebody looks at the page.

import { Failure } from "./failure.js"
import { learn } from "./names.js"

/** @import { Api, Description, Version } from "./api.js" */
/** @import { Shape } from "./see.js" */

/**
 * Who is to answer: `newest`, `label:NAME` or `version:NUMBER`.
 * @typedef {string} Target
 */

/** @type {Record<string, number>} By what is the matter. */
const EVERY = { nothing: 4000, away: 1500, key: 15_000 }

// A question for a label that is not there is an error in somebody's statistics.
const EVERY_LOST_LABEL = 30_000

// Labels cannot be listed: the server is asked what each name stands for.
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
  /** When it answered last. */
  seen = new Date(0)

  /** @type {Map<string, Promise<(string | undefined)[]>>} */
  #names = new Map()
  /** When each label that stands for nothing was asked for. @type {Map<string, number>} */
  #lost = new Map()
  #timer = 0
  #round = 0

  /**
   * @param {Api} api
   * @param {string} model
   * @param {string[]} labels More labels to ask for.
   */
  constructor(api, model, labels) {
    super()
    this.api = api
    this.model = model
    this.wanted = [...new Set([...LABELS, ...labels])]
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) void this.look()
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

  /** Ask now, tell with an event `change`, and ask again after a while. */
  async look() {
    clearTimeout(this.#timer)
    const round = ++this.#round
    const found = await this.#ask()
    if (round !== this.#round) return // a later one was begun meanwhile
    Object.assign(this, found)
    this.dispatchEvent(new Event("change"))
    this.#timer = setTimeout(
      () => {
        if (!document.hidden) void this.look()
      },
      EVERY[this.failure?.kind ?? "nothing"] ?? EVERY.nothing,
    )
  }

  async #ask() {
    const model = this.model
    try {
      const versions = await this.api.status(model)
      if (!versions.some(({ state }) => state === "AVAILABLE")) throw nothingAvailable(model, versions)
      const newest = await this.api.metadata(model)
      if (JSON.stringify(versions) !== JSON.stringify(this.versions)) this.#lost.clear()
      const wanted = this.wanted.filter(
        (label) => Date.now() > (this.#lost.get(label) ?? 0) + EVERY_LOST_LABEL,
      )
      const labels = await Promise.all(
        wanted.map(async (label) => {
          try {
            const { version } = await this.api.metadata(model, `/labels/${encodeURIComponent(label)}`)
            return /** @type {[string, number]} */ ([label, version])
          } catch (error) {
            if (!(error instanceof Failure && ["unknown", "refused"].includes(error.kind))) throw error
            this.#lost.set(label, Date.now())
            return null
          }
        }),
      )
      const given = labels.filter((entry) => entry !== null)
      return { failure: null, versions, newest, labels: new Map(given), seen: new Date() }
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      return error.kind === "unknown" ? { failure: error, versions: [] } : { failure: error }
    }
  }

  /** What the model takes, or null where it has no signature for pictures. */
  get shape() {
    const dims = this.newest?.signatures.serving_default?.inputs?.image?.tensor_shape?.dim
    const sizes = (dims ?? []).map((/** @type {any} */ dim) => Number(dim.size))
    const [, height, width, channels = 1] = sizes
    const known = sizes.length >= 3 && height > 0 && width > 0 && [1, 3].includes(channels)
    return known ? /** @type {Shape} */ ({ height, width, channels }) : null
  }

  get available() {
    return this.versions.filter(({ state }) => state === "AVAILABLE").map(({ number }) => number)
  }

  /**
   * The version that a target stands for now.
   * @param {Target} target
   */
  resolve(target) {
    const [kind, name] = target.split(/:(.*)/s)
    const version =
      kind === "label" ? this.labels.get(name) : kind === "version" ? Number(name) : this.newest?.version
    if (version === undefined) {
      throw this.failure ?? new Failure("unknown", `No version is labelled ${name}.`, "Choose another.")
    }
    return version
  }

  /**
   * @param {number} version
   * @returns {Promise<(string | undefined)[]>} By class number; empty where they cannot be learnt.
   */
  async names(version) {
    const at = `${this.model}/${version}`
    let names = this.#names.get(at)
    if (!names) {
      names = learn(this.api, this.model, version)
      this.#names.set(at, names)
    }
    try {
      return await names
    } catch (error) {
      // A model without `classify` will not get one; a server that is away may come back.
      const lasting = error instanceof Failure && ["refused", "unknown"].includes(error.kind)
      if (!lasting) this.#names.delete(at)
      return []
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
    "away",
    `The server knows ${model}, but no version of it is available${reason ? `: ${reason}` : "."}`,
    "Wait until one is loaded; the page goes on asking.",
  )
}
