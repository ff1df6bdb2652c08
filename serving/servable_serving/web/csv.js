// Predictions as CSV, with the columns of `servable classify --csv` and one for errors.

/** @import { Answer } from "./answers.js" */

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {Answer | null} answer
 * @property {string} error
 */

const COLUMNS = ["picture", "label", "class_id", "probability", "version", "error"]

/** @param {Row[]} rows */
export function csv(rows) {
  const lines = rows.map(({ name, answer, error }) => [
    name,
    answer?.label ?? "",
    answer?.classId ?? "",
    answer ? answer.probabilities[answer.classId] : "",
    answer?.version ?? "",
    error,
  ])
  return [COLUMNS, ...lines]
    .map((line) => `${line.map((value) => quoted(String(value))).join(",")}\r\n`)
    .join("")
}

/** @param {string} value */
function quoted(value) {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value
}
