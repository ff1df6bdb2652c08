// Asking the server for the class of an image.

import { Failure, retried } from "./failure.js"
import { base64 } from "./image.js"
import { nested } from "./see.js"

/** @import { Answer } from "./answers.js" */
/** @import { Api } from "./api.js" */
/** @import { LoadedImage } from "./image.js" */
/** @import { Sight } from "./see.js" */
/** @import { Server, Target } from "./server.js" */

/**
 * @typedef {object} Question
 * @property {LoadedImage} image
 * @property {Sight} sight
 * @property {boolean} own Whether the page's own pixels are sent instead of the file.
 */

/**
 * @param {Pick<Api, "predict">} api
 * @param {Pick<Server, "model" | "resolve" | "names" | "look" | "failure">} server
 * @param {Question} question
 * @param {Target} target
 * @returns {Promise<Answer>}
 */
export async function predict(api, server, question, target) {
  const { image, sight, own } = question
  const signature = own ? "serving_default" : "serving_bytes"
  const instance = own ? nested(sight) : { b64: await base64(image.blob) }
  const version = server.resolve(target)
  let began = 0
  try {
    const [found] = await retried(() => {
      began = performance.now()
      return api.predict(server.model, version, signature, [instance])
    })
    const elapsed = performance.now() - began
    const known = await server.names(version)
    const names = found.probabilities.map((_, number) => known[number] ?? `class ${number}`)
    names[found.classId] = found.label
    return { ...found, version, elapsed, names }
  } catch (error) {
    if (!(error instanceof Failure) || error.kind !== "missing") throw error
    // A label moved, or the version was removed.
    await server.look()
    if (server.failure || server.resolve(target) === version) throw error
    return predict(api, server, question, target)
  }
}

/**
 * Runs one job at a time. Of the jobs that come meanwhile only the latest is run.
 * @template T
 */
export class Latest {
  /** @type {T | null} */
  #waiting = null
  #running = false
  #run

  /** @param {(job: T) => Promise<void>} run */
  constructor(run) {
    this.#run = run
  }

  /** The job that will be run next, unless another one comes. */
  get waiting() {
    return this.#waiting
  }

  /**
   * @param {T} job
   * @returns {Promise<void>} Done at once if a job is running, else when no more jobs wait.
   */
  async put(job) {
    this.#waiting = job
    if (this.#running) return
    this.#running = true
    try {
      while (this.#waiting !== null) {
        const next = this.#waiting
        this.#waiting = null
        await this.#run(next)
      }
    } finally {
      this.#running = false
    }
  }
}
