// The request on the page as a curl command and as a Python program.

import { fileName } from "./image.js"
import { nested } from "./see.js"

/** @import { LoadedImage } from "./image.js" */
/** @import { Sight } from "./see.js" */

/**
 * @typedef {object} Snippet
 * @property {string} origin
 * @property {string} address Of the model, pinned to a version or label.
 * @property {string} model
 * @property {string} pin As a Python argument: `label="stable"`.
 * @property {boolean} key Whether an API key is needed.
 * @property {LoadedImage} image
 * @property {Sight} sight
 * @property {boolean} own Whether the page's own pixels are sent instead of the file.
 */

/** @param {Snippet} snippet */
export function curl({ address, key, image, sight, own }) {
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
    `  "$(base64 < ${quoted(fileName(image))} | tr -d '\\n')" |\n` +
    `  curl ${header}-d @- ${quoted(`${address}:predict`)}`
  )
}

/** @param {Snippet} snippet */
export function python({ origin, model, pin, key, image, sight, own }) {
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
    : JSON.stringify(fileName(image))
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
