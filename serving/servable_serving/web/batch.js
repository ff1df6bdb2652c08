// Several files at once, as a table and as CSV.

import { csv } from "./csv.js"
import { find, make, percent } from "./dom.js"
import { Failure } from "./failure.js"
import { paint } from "./see.js"

/** @import { Answer } from "./answers.js" */
/** @import { Row } from "./csv.js" */
/** @import { LoadedImage } from "./image.js" */
/** @import { Sight } from "./see.js" */

const CONCURRENT = 2

/**
 * @param {object} on
 * @param {(file: File) => Promise<LoadedImage>} on.read
 * @param {(image: LoadedImage) => Promise<Sight>} on.see What the model sees of it.
 * @param {(image: LoadedImage, sight: Sight) => Promise<Answer>} on.predict
 * @param {(image: LoadedImage) => void} on.show Called with an image that is chosen in the table.
 * @returns {(files: File[]) => Promise<void>} Classifies files, in place of the earlier ones.
 */
export function batch(on) {
  const section = find("batch", HTMLElement)
  const body = find("batch-rows", HTMLTableSectionElement)
  const progress = find("batch-progress", HTMLElement)
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
    const [name, label, share, version, time] = line.cells
    try {
      const image = await on.read(file)
      const sight = await on.see(image)
      const canvas = make("canvas", { "aria-hidden": "true" })
      paint(sight, canvas)
      const button = make("button", { type: "button", title: "Show this image" }, canvas, row.name)
      button.addEventListener("click", () => on.show(image))
      name.replaceChildren(button)
      const answer = await on.predict(image, sight)
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
        progress.textContent = `${done} of ${files.length} classified`
        await one(file, rows[i], lines[i])
        done++
      }
    }
    await Promise.all(Array.from({ length: CONCURRENT }, work))
    if (mine !== round) return
    const failed = rows.filter(({ error }) => error).length
    progress.textContent = `${done - failed} of ${done} classified${failed ? `, ${failed} failed` : ""}`
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
