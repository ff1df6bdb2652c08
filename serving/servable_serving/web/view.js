// What the page shows. It reads and writes elements, and decides nothing.

import { Panel } from "./answers.js"
import { find, make, percent } from "./dom.js"
import { fileName, thumbnail } from "./image.js"
import { paint } from "./see.js"
import { curl, python } from "./snippets.js"

/** @import { Answer } from "./answers.js" */
/** @import { Failure } from "./failure.js" */
/** @import { LoadedImage } from "./image.js" */
/** @import { Sight } from "./see.js" */
/** @import { Server, Target } from "./server.js" */
/** @import { Snippet } from "./snippets.js" */
/** @import { Change } from "./store.js" */

export class View {
  #target = find("target", HTMLSelectElement)
  #rival = find("rival", HTMLSelectElement)
  #tensorsTarget = find("tensors-target", HTMLSelectElement)
  #invert = find("invert", HTMLInputElement)
  #original = find("original", HTMLCanvasElement)
  #seen = find("seen", HTMLCanvasElement)
  #answers = find("answers", HTMLElement)
  #panel = new Panel(find("answer", HTMLElement))
  #rivalPanel = new Panel(find("rival-answer", HTMLElement))
  #history = find("last", HTMLOListElement)
  /** The address of the image that can be saved. */
  #saved = ""

  constructor() {
    this.#panel.show(null, "")
  }

  /** @returns {Target[]} What is chosen to predict, and what to compare it with, if anything. */
  get targets() {
    return [this.#target.value, this.#rival.value].filter((value, i) => i === 0 || value)
  }

  /** @param {LoadedImage} image */
  showImage(image) {
    find("image-name", HTMLElement).textContent = image.name
    find("image-about", HTMLElement).textContent = image.about
    this.#original.setAttribute("aria-label", `Your image, ${image.name}`)
    void thumbnail(image.data, this.#original)
  }

  /** @param {Sight} sight */
  showSight(sight) {
    const { shape, light, automatic, inverted } = sight
    paint(sight, this.#seen)
    paint(sight, find("glance-seen", HTMLCanvasElement))
    find("seen-size", HTMLElement).textContent = `${shape.width} × ${shape.height}`
    this.#seen.setAttribute("aria-label", `Model input, ${shape.width} by ${shape.height} pixels`)
    find("inversion", HTMLElement).hidden = shape.channels === 3
    this.#invert.disabled = false
    this.#invert.checked = inverted
    const overridden = inverted !== automatic
    find("invert-why", HTMLElement).textContent = overridden
      ? "Set by you."
      : automatic
        ? "The border is light; the model expects light on dark."
        : light
          ? "The border is light; the model takes images as they are."
          : "The border is dark: the image is taken as it is."
    find("invert-auto", HTMLButtonElement).hidden = !overridden
  }

  /**
   * @param {Answer[]} answers One, or two to compare.
   * @param {Target[]} targets Who gave them.
   */
  showAnswers([first, second], [target, rival]) {
    this.#panel.show(first, title(target, first.version))
    this.#rivalPanel.root.hidden = !second
    this.#answers.classList.toggle("two", Boolean(second))
    if (second) this.#rivalPanel.show(second, title(rival, second.version))
    const agreement = find("agreement", HTMLElement)
    agreement.hidden = !second
    if (second) {
      const agree = first.classId === second.classId
      agreement.className = `agreement ${agree ? "agree" : "differ"}`
      agreement.textContent = agree
        ? `Both predict ${first.label}.`
        : `They differ: ${first.label} and ${second.label}.`
    }
    find("glance", HTMLElement).hidden = false
    find("glance-label", HTMLElement).textContent = first.label
    find("glance-share", HTMLElement).textContent = percent(first.probabilities[first.classId])
  }

  /**
   * Tell a screen reader, and whoever waits for it, that a final image was classified.
   * @param {Answer[]} answers
   * @param {Target[]} targets
   * @param {LoadedImage} image
   * @param {number} count How many were.
   */
  announce([first, second], [, rival], image, count) {
    this.#answers.dataset.image = image.name
    this.#answers.dataset.count = String(count)
    const share = percent(first.probabilities[first.classId])
    const also = second ? `; ${title(rival, second.version)}: ${second.label}` : ""
    find("said", HTMLElement).textContent = `${first.label}, ${share}, version ${first.version}${also}`
  }

  /**
   * @param {Failure | null} trouble
   * @param {object} key
   * @param {boolean} key.wanted Whether the user asked to enter a key.
   * @param {boolean} key.sent Whether there is one.
   */
  showTrouble(trouble, key) {
    const section = find("trouble", HTMLElement)
    const message = find("trouble-message", HTMLElement)
    const advice = find("trouble-advice", HTMLElement)
    section.hidden = !trouble
    section.dataset.kind = trouble?.kind ?? ""
    // Written only where it changes: an alert is read out each time.
    if (trouble && message.textContent !== trouble.message) {
      message.textContent = trouble.message
      advice.textContent = trouble.advice
    }
    if (!trouble) message.textContent = ""
    find("key-form", HTMLFormElement).hidden = trouble?.kind !== "key" && !key.wanted
    if (!key.wanted || trouble) return
    section.hidden = false
    message.textContent = key.sent
      ? "An API key is sent with each request."
      : "No API key is sent."
    advice.textContent = "Enter a key, or leave the field empty to remove the current one."
  }

  /**
   * @param {Change} change
   * @param {Answer} answer
   * @param {Sight} sight
   * @param {() => void} again Called when the image is chosen again.
   */
  showRemembered({ entry, replaced, dropped }, answer, sight, again) {
    // At first there is only the line that says so.
    if (!this.#history.querySelector("button")) this.#history.replaceChildren()
    if (replaced >= 0) this.#history.children[replaced]?.remove()
    const canvas = make("canvas", { "aria-hidden": "true" })
    paint(sight, canvas)
    const button = make(
      "button",
      { type: "button", title: `${entry.image.name}, version ${answer.version}` },
      canvas,
      make("b", {}, answer.label),
      make("span", {}, percent(answer.probabilities[answer.classId])),
    )
    button.addEventListener("click", again)
    this.#history.prepend(make("li", {}, button))
    if (dropped) this.#history.lastElementChild?.remove()
  }

  /** @param {Snippet} snippet */
  showCode(snippet) {
    find("curl", HTMLElement).textContent = curl(snippet)
    find("python", HTMLElement).textContent = python(snippet)
    find("copy", HTMLButtonElement).disabled = false
    URL.revokeObjectURL(this.#saved)
    this.#saved = URL.createObjectURL(snippet.image.blob)
    const save = find("save", HTMLAnchorElement)
    save.href = this.#saved
    save.download = fileName(snippet.image)
    save.textContent = `Save ${save.download}`
    save.hidden = snippet.own
  }

  /**
   * @param {string} curl
   * @param {string} python
   */
  showTensorCode(curl, python) {
    find("curl", HTMLElement).textContent = curl
    find("python", HTMLElement).textContent = python
    find("copy", HTMLButtonElement).disabled = false
    find("save", HTMLAnchorElement).hidden = true
  }

  /**
   * Show what belongs to image classifiers, or to other models.
   * @param {boolean | null} classifies Null if it is not known.
   */
  showKind(classifies) {
    if (classifies === null) return
    document.body.dataset.kind = classifies ? "images" : "tensors"
    for (const section of document.querySelectorAll("[data-for]")) {
      if (section instanceof HTMLElement) {
        section.hidden = section.dataset.for !== document.body.dataset.kind
      }
    }
    if (!classifies) for (const id of ["batch", "glance"]) find(id, HTMLElement).hidden = true
    find("kind", HTMLElement).textContent = classifies ? "image classifier" : "model"
    find("skip", HTMLAnchorElement).href = classifies ? "#answers" : "#tensor-outputs"
  }

  /** @param {Server} server */
  showServer(server) {
    const { versions, labels, seen, available } = server
    const up = !server.failure
    const state = find("state", HTMLElement)
    const text = up
      ? `Serving version${available.length > 1 ? "s" : ""} ${available.join(", ")}`
      : "Not serving"
    if (state.textContent !== text) state.textContent = text
    state.classList.toggle("up", up)
    state.classList.toggle("down", !up)
    find("server-model", HTMLElement).textContent = server.model
    find("server-seen", HTMLElement).textContent =
      seen.getTime() === 0 ? "No response yet." : `Last response at ${seen.toLocaleTimeString()}.`
    const rows = versions.map(({ number, state, error }) => {
      const named = [...labels].filter(([, version]) => version === number).map(([label]) => label)
      const shown = up ? state : "UNKNOWN"
      return make(
        "tr",
        {},
        make("th", { scope: "row" }, String(number)),
        make(
          "td",
          {},
          make("span", { className: `chip ${shown.toLowerCase()}` }, shown),
          make("span", { className: "why", title: error }, error),
        ),
        make("td", {}, ...named.map((label) => make("span", { className: "chip" }, label))),
      )
    })
    find("versions", HTMLElement).replaceChildren(...rows)
    if (up) this.#showTargets(server)
  }

  /** @param {Server} server */
  #showTargets({ labels, newest, available }) {
    const options = [
      ...[...labels].map(([label, version]) => [`label:${label}`, `${label} · version ${version}`]),
      ["newest", `newest · version ${newest?.version}`],
      ...available.map((version) => [`version:${version}`, `version ${version}`]),
    ]
    fill(this.#target, options, labels.has("stable") ? "label:stable" : "newest")
    fill(this.#rival, [["", "none"], ...options], "")
    fill(this.#tensorsTarget, options, labels.has("stable") ? "label:stable" : "newest")
  }
}

/**
 * @param {Target} target
 * @param {number} version
 */
function title(target, version) {
  const [kind, label] = target.split(/:(.*)/s)
  return kind === "version" ? `Version ${version}` : `${label ?? "newest"} · version ${version}`
}

/**
 * @param {HTMLSelectElement} select
 * @param {string[][]} options
 * @param {string} otherwise What is chosen if the current choice is gone.
 */
function fill(select, options, otherwise) {
  const known = JSON.stringify(options)
  if (select.dataset.options === known) return
  select.dataset.options = known
  const before = select.value
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)))
  select.value = options.some(([value]) => value === before) && before ? before : otherwise
}
