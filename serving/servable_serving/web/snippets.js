// The question on the page as a command and as a program.

import { fileName } from "./picture.js"
import { nested } from "./see.js"

/** @import { Picture } from "./picture.js" */
/** @import { Sight } from "./see.js" */

/**
 * @typedef {object} Question
 * @property {string} origin
 * @property {string} address Of the model, pinned to a version or label.
 * @property {string} model
 * @property {string} pin As a Python argument: `label="stable"`.
 * @property {boolean} key Whether a key is needed.
 * @property {Picture} picture
 * @property {Sight} sight
 * @property {boolean} own Whether the page's own 28 x 28 is sent, and not the file.
 */

/** @param {Question} question */
export function curl({ address, key, picture, sight, own }) {
  const header = key ? `-H "x-api-key: $SERVABLE_API_KEY" ` : ""
  if (own) {
    const rows = JSON.stringify(nested(sight))
    return (
      `curl ${header}${quoted(`${address}:predict`)} \\\n` +
      `  -d '{"signature_name": "serving_default", "instances": [${rows}]}'`
    )
  }
  return (
    `printf '{"signature_name": "serving_bytes", "instances": [{"b64": "%s"}]}' \\\n` +
    `  "$(base64 < ${quoted(fileName(picture))} | tr -d '\\n')" |\n` +
    `  curl ${header}-d @- ${quoted(`${address}:predict`)}`
  )
}

/** @param {Question} question */
export function python({ origin, model, pin, key, picture, sight, own }) {
  const options = `model=${JSON.stringify(model)}, ${pin}`
  const access = key ? `, api_key=os.environ["SERVABLE_API_KEY"]` : ""
  const imports = [
    ...(own ? ["import base64"] : []),
    ...(key ? ["import os"] : []),
    ...(own ? ["", "import numpy as np"] : key ? [""] : []),
    "from servable_client import Client",
    "",
  ]
  const { height, width, channels } = sight.shape
  const shape = channels === 1 ? `${height}, ${width}` : `${height}, ${width}, ${channels}`
  const pixels = own ? btoa(String.fromCharCode(...sight.pixels)) : ""
  const what = own
    ? `np.frombuffer(base64.b64decode("${pixels}"), np.uint8).reshape(${shape})`
    : JSON.stringify(fileName(picture))
  return [
    ...imports,
    `with Client(${JSON.stringify(origin)}, ${options}${access}) as client:`,
    `    answer = client.classify(${what})`,
    "    print(answer.label, answer.probability)",
  ].join("\n")
}

/** @param {string} text For a POSIX shell. */
function quoted(text) {
  return /^[\w./:@%-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}
