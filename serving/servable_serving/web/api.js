// TensorFlow Serving's REST API: https://www.tensorflow.org/tfx/serving/api_rest

import { Failure, refusal, unreachable } from "./failure.js"

/** @typedef {{number: number, state: string, error: string}} Version */
/**
 * @typedef {object} Description
 * @property {number} version The version that it describes.
 * @property {Record<string, any>} signatures
 */
/**
 * @typedef {object} Prediction
 * @property {number[]} probabilities In the order of the class numbers.
 * @property {number} classId
 * @property {string} label
 */

const TIMEOUT = 30_000
const KEY = "servable-api-key"

/** One server, and the key for it. */
export class Api {
  /** @param {string} base Where `v1/` is, relative to the page. */
  constructor(base = "./") {
    this.base = base
  }

  get key() {
    return sessionStorage.getItem(KEY) ?? ""
  }

  set key(key) {
    if (key) sessionStorage.setItem(KEY, key)
    else sessionStorage.removeItem(KEY)
  }

  /**
   * The absolute address of a model.
   * @param {string} model
   * @param {string} [rest] `/labels/stable`, `/versions/1`, `:predict` ...
   */
  address(model, rest = "") {
    return new URL(`${this.base}v1/models/${encodeURIComponent(model)}${rest}`, document.baseURI).href
  }

  /**
   * @param {string} model
   * @returns {Promise<Version[]>} The newest first.
   */
  async status(model) {
    const answer = await this.#ask(this.address(model))
    return (answer.model_version_status ?? [])
      .map((/** @type {any} */ one) => ({
        number: Number(one.version),
        state: String(one.state),
        error: one.status?.error_code === "OK" ? "" : String(one.status?.error_message ?? ""),
      }))
      .sort((/** @type {Version} */ a, /** @type {Version} */ b) => b.number - a.number)
  }

  /**
   * @param {string} model
   * @param {string} [pin] `/labels/stable`, `/versions/1`, or nothing for the newest.
   * @returns {Promise<Description>}
   */
  async metadata(model, pin = "") {
    const answer = await this.#ask(this.address(model, `${pin}/metadata`))
    return {
      version: Number(answer.model_spec.version),
      signatures: answer.metadata.signature_def.signature_def,
    }
  }

  /**
   * @param {string} model
   * @param {number} version
   * @param {string} signature
   * @param {unknown[]} instances
   * @returns {Promise<Prediction[]>}
   */
  async predict(model, version, signature, instances) {
    const body = { signature_name: signature, instances }
    const answer = await this.#ask(this.address(model, `/versions/${version}:predict`), body)
    return answer.predictions.map((/** @type {any} */ one) => ({
      probabilities: one.probabilities,
      classId: one.class_id,
      label: one.label,
    }))
  }

  /**
   * The outputs of any signature, by name; of a single one its value alone.
   * @param {string} model
   * @param {number} version
   * @param {string} signature
   * @param {Record<string, unknown>} inputs
   * @returns {Promise<unknown>}
   */
  async outputs(model, version, signature, inputs) {
    const body = { signature_name: signature, inputs }
    return (await this.#ask(this.address(model, `/versions/${version}:predict`), body)).outputs
  }

  /**
   * @param {string} model
   * @param {number} version
   * @param {string[]} encoded Images in base64.
   * @returns {Promise<[string, number][][]>} For each image the classes' names and scores, the best first.
   */
  async classify(model, version, encoded) {
    const body = {
      signature_name: "classify",
      examples: encoded.map((b64) => ({ "image/encoded": { b64 } })),
    }
    return (await this.#ask(this.address(model, `/versions/${version}:classify`), body)).results
  }

  /**
   * @param {string} url
   * @param {unknown} [body] JSON to POST; a GET without.
   * @returns {Promise<any>}
   */
  async #ask(url, body) {
    const key = this.key
    /** @type {Record<string, string>} */
    const headers = {}
    if (key) headers["x-api-key"] = key
    if (body !== undefined) headers["content-type"] = "application/json"
    let reply, text
    try {
      reply = await fetch(url, {
        method: body === undefined ? "GET" : "POST",
        body: body === undefined ? undefined : JSON.stringify(body),
        headers,
        cache: "no-store",
        signal: AbortSignal.timeout(TIMEOUT),
      })
      text = await reply.text()
    } catch {
      throw unreachable()
    }
    let answer
    try {
      answer = JSON.parse(text)
    } catch {
      answer = null
    }
    if (!reply.ok) throw refusal(reply.status, firstLine(answer?.error), Boolean(key))
    if (answer === null) {
      throw new Failure("failed", "The response is not a model server's.", "Check the address.")
    }
    return answer
  }
}

/** @param {unknown} error TensorFlow's messages list nodes of the graph from the second line on. */
function firstLine(error) {
  return typeof error === "string" ? error.split("\n", 1)[0].trim() : ""
}
