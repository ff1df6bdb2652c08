// What happens when an image comes in, the user chooses something or the server changes.

import { Failure, retried } from "./failure.js"
import { read } from "./image.js"
import { Latest, predict } from "./predict.js"
import { see } from "./see.js"
import * as tensors from "./tensors.js"

/** @import { Api } from "./api.js" */
/** @import { Request, TensorForm } from "./form.js" */
/** @import { LoadedImage } from "./image.js" */
/** @import { Question } from "./predict.js" */
/** @import { Sight } from "./see.js" */
/** @import { Server, Target } from "./server.js" */
/** @import { Store } from "./store.js" */
/** @import { View } from "./view.js" */

const RETRY = 1500
const FIRST = "ankle-boot-0"

export class Controller {
  /** @type {Latest<Question & {settled: boolean}>} */
  #questions = new Latest((question) => this.#answer(question))
  /** For models that are not image classifiers. @type {TensorForm | null} */
  form = null
  /** What was last known of the versions behind the labels. */
  #known = ""
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry

  /**
   * @param {Store} store
   * @param {Api} api
   * @param {Server} server
   * @param {View} view
   */
  constructor(store, api, server, view) {
    this.store = store
    this.api = api
    this.server = server
    this.view = view
    server.addEventListener("change", () => this.#serverChanged())
  }

  // Images

  /**
   * @param {LoadedImage} image
   * @param {object} [options]
   * @param {boolean} [options.settled] Whether the image is final; else more are on their way.
   * @param {boolean} [options.inversion] What was chosen for it earlier.
   */
  async show(image, { settled = true, inversion } = {}) {
    this.store.show(image, inversion)
    this.view.showImage(image)
    await this.update(settled)
  }

  /**
   * @param {Blob} blob
   * @param {string} name
   */
  async showBlob(blob, name) {
    try {
      await this.show(await read(blob, name))
    } catch (error) {
      this.fail(error)
    }
  }

  /** @param {string} file */
  async showSample(file) {
    try {
      const reply = await fetch(`samples/${file}.png`)
      if (!reply.ok) throw new TypeError()
      await this.showBlob(await reply.blob(), `${file}.png`)
    } catch {
      const advice = "Check that the server is running."
      this.fail(new Failure("unreachable", "The test image could not be loaded.", advice))
    }
  }

  // Predictions

  /** @param {boolean | undefined} inversion What the user chose; undefined: as the signature does. */
  choose(inversion) {
    this.store.inversion = inversion
    void this.update(true)
  }

  /** @param {boolean} settled */
  async update(settled) {
    const { image, inversion } = this.store
    const { shape } = this.server
    if (!image || !shape) {
      if (this.server.newest && !shape) {
        const advice = "Enter its inputs in the form instead."
        const message = `${this.server.model} does not classify images.`
        this.fail(new Failure("image", message, advice))
      }
      return
    }
    const inverts = await this.server.inverts()
    if (image !== this.store.image || inversion !== this.store.inversion) return // overtaken
    const sight = see(image.data, shape, { invert: inversion, inverts })
    this.view.showSight(sight)
    const own = sight.inverted !== sight.automatic || !this.#takesFiles
    // While one question is answered only the latest waits: a drawing overtakes itself.
    const final = settled || Boolean(this.#questions.waiting?.settled)
    await this.#questions.put({ image, sight, own, settled: final })
  }

  /**
   * For one of several files.
   * @param {LoadedImage} image
   * @returns {Promise<Sight>} What the model sees of it.
   */
  async see(image) {
    const { shape, failure } = this.server
    if (!shape) throw failure ?? new Failure("missing", "No model is available.", "")
    return see(image.data, shape, { inverts: await this.server.inverts() })
  }

  /**
   * @param {LoadedImage} image
   * @param {Sight} sight
   */
  predict(image, sight) {
    const question = { image, sight, own: !this.#takesFiles }
    return predict(this.api, this.server, question, this.view.targets[0])
  }

  // Models of other kinds

  /** @param {() => Request} read Throws a Failure if what was typed is not valid. */
  async ask(read) {
    const { api, server, store } = this
    try {
      const { signature, inputs, target } = read()
      const version = server.resolve(target)
      const began = performance.now()
      const answer = await retried(() => api.outputs(server.model, version, signature, inputs))
      store.failure = null
      this.showTrouble()
      this.form?.showAnswer(answer, signature, version, performance.now() - began)
      const snippet = { ...this.#pinned(target), signature, inputs }
      this.view.showTensorCode(tensors.curl(snippet), tensors.python(snippet))
    } catch (error) {
      const rejected = error instanceof Failure && error.kind === "rejected"
      this.fail(rejected ? new Failure("input", error.message, "Change the inputs.") : error)
    }
  }

  get #takesFiles() {
    return Boolean(this.server.newest?.signatures.serving_bytes)
  }

  /** @param {Question & {settled: boolean}} question */
  async #answer(question) {
    const { image, sight, settled } = question
    const { store, view } = this
    const targets = view.targets
    try {
      const answers = await Promise.all(
        targets.map((target) => predict(this.api, this.server, question, target)),
      )
      store.failure = null
      this.showTrouble()
      view.showAnswers(answers, targets)
      if (!settled) return
      view.announce(answers, targets, image, ++store.classified)
      const change = store.remember(image)
      const { inversion } = change.entry
      view.showRemembered(change, answers[0], sight, () => void this.show(image, { inversion }))
      this.#showCode(question, targets[0])
    } catch (error) {
      this.fail(error)
    }
  }

  /**
   * @param {Question} question
   * @param {Target} target
   */
  #showCode(question, target) {
    this.view.showCode({ ...question, ...this.#pinned(target) })
  }

  /**
   * What code needs to know of a target.
   * @param {Target} target
   */
  #pinned(target) {
    const { api, server } = this
    const [kind, label] = target.split(/:(.*)/s)
    const version = server.resolve(target)
    const pinned = kind === "label" ? `/labels/${encodeURIComponent(label)}` : `/versions/${version}`
    return {
      origin: new URL("./", document.baseURI).href.replace(/\/$/, ""),
      address: api.address(server.model, pinned),
      model: server.model,
      pin: kind === "label" ? `label=${JSON.stringify(label)}` : `version=${version}`,
      key: Boolean(api.key),
    }
  }

  // Failures

  /** @param {unknown} error */
  fail(error) {
    if (!(error instanceof Failure)) throw error
    this.store.failure = error
    this.showTrouble()
    if (error.kind === "unreachable" || error.kind === "key") void this.server.look()
  }

  showTrouble() {
    const { store, server, api, view } = this
    const key = { wanted: store.keyWanted, sent: Boolean(api.key) }
    view.showTrouble(server.failure ?? store.failure, key)
  }

  // The server

  #serverChanged() {
    const { server, store } = this
    this.view.showServer(server)
    this.showTrouble()
    if (server.failure) {
      this.#known = ""
      return
    }
    this.view.showKind(server.classifies)
    if (server.classifies === false) this.form?.show(server.newest?.signatures ?? {})
    const known = JSON.stringify([server.model, [...server.labels], server.newest?.version])
    const news = known !== this.#known
    this.#known = known
    clearTimeout(this.#retry)
    if (news) this.#repeat()
    // The server is well but a request failed: not at once, or the two would alternate endlessly.
    else if (store.failure && !["image", "input", "rejected"].includes(store.failure.kind)) {
      this.#retry = setTimeout(() => this.#repeat(), RETRY)
    }
  }

  #repeat() {
    if (!this.server.shape) {
      // What went wrong with another model is not about this one.
      this.store.failure = null
      this.showTrouble()
    } else if (this.store.image) void this.update(true)
    else void this.showSample(FIRST)
  }

  /** @param {string} model */
  turnTo(model) {
    if (!model || model === this.server.model) return
    const url = new URL(location.href)
    url.searchParams.set("model", model)
    history.replaceState(null, "", url)
    void this.server.turnTo(model)
  }

  /**
   * @param {string} key An API key, or nothing to send none.
   * @returns {Promise<boolean>} Whether the server responds with it.
   */
  async useKey(key) {
    this.api.key = key
    this.store.keyWanted = false
    await this.server.look()
    this.showTrouble()
    return !this.server.failure
  }

  wantKey() {
    this.store.keyWanted = true
    this.showTrouble()
  }
}
