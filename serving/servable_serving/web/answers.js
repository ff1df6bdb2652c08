// One answer: its version, its time, and its probabilities as bars, the most likely first.

import { make, percent } from "./dom.js"

/**
 * @typedef {object} Answer
 * @property {number} version
 * @property {string[]} names By class number.
 * @property {number[]} probabilities By class number.
 * @property {number} classId
 * @property {string} label
 * @property {number} elapsed Milliseconds, from the request to the complete response.
 */

const BARS = 10

/**
 * @param {number[]} probabilities By class number.
 * @returns {[number, number][]} Class numbers and probabilities of the most likely classes.
 */
export function ranked(probabilities) {
  return [...probabilities.entries()].sort(([, a], [, b]) => b - a).slice(0, BARS)
}

/** A place for an answer, which replaces the one before. */
export class Panel {
  #title = make("h3")
  #time = make("p", { className: "time" })
  #label = make("strong")
  #share = make("span", { className: "share" })
  #bars = make("ol", { className: "bars" })
  /** @type {Map<number, HTMLLIElement>} */
  #rows = new Map()

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root
    root.replaceChildren(
      make("header", {}, this.#title, this.#time),
      make("p", { className: "verdict" }, this.#label, this.#share),
      this.#bars,
    )
  }

  /**
   * @param {Answer | null} answer
   * @param {string} title The version, or the label and its version.
   */
  show(answer, title) {
    this.root.classList.toggle("empty", answer === null)
    this.#title.textContent = answer ? title : "No prediction yet"
    this.#time.textContent = answer ? `${answer.elapsed.toFixed(answer.elapsed < 10 ? 1 : 0)} ms` : ""
    this.#label.textContent = answer?.label ?? "—"
    this.#share.textContent = answer ? percent(answer.probabilities[answer.classId]) : ""
    this.#rank(answer)
  }

  /** @param {Answer | null} answer */
  #rank(answer) {
    const top = answer ? ranked(answer.probabilities) : []
    const before = new Map([...this.#rows].map(([number, row]) => [number, row.offsetTop]))
    const shown = new Set(top.map(([number]) => number))
    for (const [number, row] of this.#rows) {
      if (shown.has(number)) continue
      row.remove()
      this.#rows.delete(number)
    }
    const rows = top.map(([number, share]) => {
      const row = this.#rows.get(number) ?? newRow()
      this.#rows.set(number, row)
      const [name, bar, text] = /** @type {HTMLElement[]} */ ([...row.children])
      name.textContent = answer?.names[number] ?? `class ${number}`
      bar.style.setProperty("--share", String(share))
      text.textContent = percent(share)
      return row
    })
    // Only rows whose place changed are moved, so that a screen reader keeps its position.
    rows.forEach((row, i) => {
      if (this.#bars.children[i] !== row) this.#bars.insertBefore(row, this.#bars.children[i] ?? null)
    })
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return
    for (const [number, row] of this.#rows) {
      const from = (before.get(number) ?? row.offsetTop) - row.offsetTop
      if (from) {
        row.animate([{ transform: `translateY(${from}px)` }, { transform: "none" }], {
          duration: 220,
          easing: "cubic-bezier(0.2, 0, 0, 1)",
        })
      }
    }
  }
}

function newRow() {
  return make(
    "li",
    {},
    make("span", { className: "name" }),
    make("span", { className: "bar" }),
    make("span", { className: "percent" }),
  )
}
