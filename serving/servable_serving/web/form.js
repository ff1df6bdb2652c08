// A form for the inputs of any signature, and its outputs: for models that are not image classifiers.

import { find, make } from "./dom.js"
import { Failure } from "./failure.js"
import { callable, described, example, parse, tensorsOf } from "./tensors.js"

/** @import { Target } from "./server.js" */

/**
 * @typedef {object} Request
 * @property {string} signature
 * @property {Record<string, unknown>} inputs
 * @property {Target} target
 */

// More of an output is not shown; the page would become slow.
const LONGEST = 20_000

export class TensorForm {
  #form = find("tensors", HTMLFormElement)
  #signature = find("signature", HTMLSelectElement)
  #target = find("tensors-target", HTMLSelectElement)
  #fields = find("tensor-inputs", HTMLElement)
  #outputs = find("tensor-outputs", HTMLElement)
  #answered = find("tensors-answered", HTMLElement)
  /** @type {Record<string, any>} */
  #signatures = {}
  /** What was typed, by signature and input. @type {Map<string, string>} */
  #typed = new Map()
  /** @type {Map<string, HTMLTextAreaElement>} */
  #areas = new Map()
  #known = ""

  /** @param {(read: () => Request) => void} ask Called when the form is sent. */
  constructor(ask) {
    this.#signature.addEventListener("change", () => this.#showInputs())
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault()
      ask(() => this.request())
    })
  }

  /** @param {Record<string, any>} signatures Of the version that is served. */
  show(signatures) {
    const known = JSON.stringify(signatures)
    if (known === this.#known) return
    this.#known = known
    this.#signatures = signatures
    const names = callable(signatures)
    const before = this.#signature.value
    this.#signature.replaceChildren(...names.map((value) => make("option", { value }, value)))
    if (names.includes(before)) this.#signature.value = before
    this.#showInputs()
  }

  #showInputs() {
    const signature = this.#signature.value
    this.#areas.clear()
    const fields = tensorsOf(this.#signatures[signature]?.inputs).map((tensor, number) => {
      const id = `tensor-${number}`
      const at = JSON.stringify([signature, tensor.name])
      const value = this.#typed.get(at) ?? example(tensor)
      const area = make("textarea", {
        id,
        value,
        rows: Math.min(Math.max(value.split("\n").length, 3), 8),
        spellcheck: false,
        "aria-describedby": `${id}-about`,
      })
      area.addEventListener("input", () => this.#typed.set(at, area.value))
      this.#areas.set(tensor.name, area)
      return make(
        "div",
        { className: "tensor" },
        make("label", { htmlFor: id }, tensor.name),
        make("span", { id: `${id}-about`, className: "hint" }, described(tensor)),
        area,
      )
    })
    this.#fields.replaceChildren(...fields)
  }

  /** What the form asks for; throws a Failure that names an input that is not valid. */
  request() {
    const signature = this.#signature.value
    /** @type {Record<string, unknown>} */
    const inputs = {}
    for (const area of this.#areas.values()) area.removeAttribute("aria-invalid")
    for (const tensor of tensorsOf(this.#signatures[signature]?.inputs)) {
      const area = this.#areas.get(tensor.name)
      try {
        inputs[tensor.name] = parse(area?.value ?? "", tensor)
      } catch (error) {
        if (error instanceof Failure) {
          area?.setAttribute("aria-invalid", "true")
          area?.focus()
        }
        throw error
      }
    }
    return { signature, inputs, target: this.#target.value }
  }

  /**
   * @param {unknown} answer By the name of the output; the value alone of a single one.
   * @param {string} signature
   * @param {number} version
   * @param {number} elapsed Milliseconds.
   */
  showAnswer(answer, signature, version, elapsed) {
    const outputs = tensorsOf(this.#signatures[signature]?.outputs)
    const rows = outputs.map((tensor) => {
      const value = outputs.length === 1 ? answer : /** @type {any} */ (answer)?.[tensor.name]
      return make(
        "div",
        { className: "tensor" },
        make("h3", {}, tensor.name),
        make("span", { className: "hint" }, described(tensor)),
        make(
          "pre",
          { tabIndex: 0, role: "region", "aria-label": `Output ${tensor.name}` },
          shown(value),
        ),
      )
    })
    this.#outputs.replaceChildren(...rows)
    this.#answered.textContent = `Version ${version}, ${elapsed.toFixed(elapsed < 10 ? 1 : 0)} ms`
  }
}

/**
 * A value as JSON, a row a line.
 * @param {unknown} value
 */
function shown(value) {
  const rows = Array.isArray(value) && value.some(Array.isArray)
  const text = rows
    ? `[\n${value.map((row) => `  ${JSON.stringify(row)}`).join(",\n")}\n]`
    : (JSON.stringify(value) ?? "")
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} … (${text.length} characters)` : text
}
