// Several files at once, as a table and as CSV.

import { find, make, percent } from "./dom.js"
import { Failure } from "./failure.js"
import { paint } from "./see.js"

/** @import { Answer } from "./answers.js" */
/** @import { Picture } from "./picture.js" */
/** @import { Sight } from "./see.js" */

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {Answer | null} answer
 * @property {string} error
 */

const AT_ONCE = 2

/**
 * @param {object} on
 * @param {(file: File) => Promise<Picture>} on.read
 * @param {(picture: Picture) => Sight} on.see What the model sees of it.
 * @param {(picture: Picture, sight: Sight) => Promise<Answer>} on.ask
 * @param {(picture: Picture) => void} on.show A picture that was chosen.
 */
export function batch(on) {
  const section = find("batch", HTMLElement)
  const body = find("batch-rows", HTMLTableSectionElement)
  const said = find("batch-said", HTMLElement)
  const download = find("batch-csv", HTMLButtonElement)
  /** @type {Row[]} */
  let rows = []
  let round = 0

  /**
   * @param {File} file
   * @param {Row} row
   * @param {HTMLTableRowElement} line
   */
  const one = async (file, row, line) => {
    const [picture, label, share, version, time] = line.cells
    try {
      const read = await on.read(file)
      const sight = on.see(read)
      const canvas = make("canvas", { "aria-hidden": "true" })
      paint(sight, canvas)
      const button = make("button", { type: "button", title: "Look at it" }, canvas, row.name)
      button.addEventListener("click", () => on.show(read))
      picture.replaceChildren(button)
      const answer = await on.ask(read, sight)
      row.answer = answer
      label.textContent = answer.label
      share.textContent = percent(answer.probabilities[answer.classId])
      version.textContent = String(answer.version)
      time.textContent = answer.elapsed.toFixed(0)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      row.error = error.message
      label.colSpan = 4
      label.textContent = error.message
      label.className = "error"
      for (const cell of [share, version, time]) cell.remove()
    }
  }

  /** @param {File[]} files */
  const start = async (files) => {
    const mine = ++round
    section.hidden = false
    download.disabled = true
    rows = files.map(({ name }) => ({ name, answer: null, error: "" }))
    const lines = rows.map(({ name }) => {
      const cells = [make("th", { scope: "row" }, name), ...["…", "", "", ""].map((t) => make("td", {}, t))]
      return make("tr", {}, ...cells)
    })
    body.replaceChildren(...lines)
    section.scrollIntoView({ block: "nearest" })
    const todo = files.entries()
    let done = 0
    const work = async () => {
      for (const [i, file] of todo) {
        if (mine !== round) return
        said.textContent = `${done} of ${files.length} answered`
        await one(file, rows[i], lines[i])
        done++
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, work))
    if (mine !== round) return
    const failed = rows.filter(({ error }) => error).length
    said.textContent = `${done - failed} of ${done} answered${failed ? `, ${failed} failed` : ""}`
    download.disabled = false
  }

  download.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([csv(rows)], { type: "text/csv" }))
    make("a", { href: url, download: "answers.csv" }).click()
    setTimeout(() => URL.revokeObjectURL(url), 10_000)
  })
  find("batch-close", HTMLButtonElement).addEventListener("click", () => {
    round++
    section.hidden = true
  })
  return start
}

/**
 * The columns of `servable classify --csv`, and what went wrong.
 * @param {Row[]} rows
 */
function csv(rows) {
  const lines = rows.map(({ name, answer, error }) => [
    name,
    answer?.label ?? "",
    answer?.classId ?? "",
    answer ? answer.probabilities[answer.classId] : "",
    answer?.version ?? "",
    error,
  ])
  return [["picture", "label", "class_id", "probability", "version", "error"], ...lines]
    .map((line) => `${line.map((value) => quoted(String(value))).join(",")}\r\n`)
    .join("")
}

/** @param {string} value */
function quoted(value) {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value
}
