// Tensors of any signature: what a signature takes and gives, and values as they are typed. No DOM.

import { Failure } from "./failure.js"

/**
 * One input or output of a signature.
 * @typedef {object} Tensor
 * @property {string} name
 * @property {string} dtype As TensorFlow names it: `float`, `int64`, `string`.
 * @property {number[] | null} shape -1 where any size is taken; null if not even the rank is known.
 */

// Signatures that requests cannot run.
const INTERNAL = "__saved_model_init_op"
const CALLABLE = ["tensorflow/serving/predict", ""]

/** Smallest and largest value, by dtype. @type {Record<string, [number, number]>} */
const INTEGERS = {
  int8: [-128, 127],
  uint8: [0, 255],
  int16: [-32768, 32767],
  uint16: [0, 65535],
  int32: [-2147483648, 2147483647],
  uint32: [0, 4294967295],
  // Those beyond are not exact in JSON as browsers read it.
  int64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint64: [0, Number.MAX_SAFE_INTEGER],
}

/**
 * The names of the signatures that can be asked for a prediction, `serving_default` first.
 * @param {Record<string, any>} signatures
 */
export function callable(signatures) {
  return Object.keys(signatures)
    .filter((key) => key !== INTERNAL && CALLABLE.includes(signatures[key].method_name ?? ""))
    .sort((a, b) => Number(b === "serving_default") - Number(a === "serving_default") || compare(a, b))
}

/**
 * @param {Record<string, any> | undefined} tensors `inputs` or `outputs` of a signature.
 * @returns {Tensor[]} By name.
 */
export function tensorsOf(tensors) {
  return Object.entries(tensors ?? {})
    .map(([name, { dtype, tensor_shape: shape }]) => ({
      name,
      dtype: String(dtype).replace(/^DT_/, "").toLowerCase(),
      shape: shape?.unknown_rank
        ? null
        : (shape?.dim ?? []).map((/** @type {any} */ dim) => Number(dim.size)),
    }))
    .sort((a, b) => compare(a.name, b.name))
}

/** @param {Tensor} tensor */
export function described({ dtype, shape }) {
  const sizes = shape?.map((size) => (size < 0 ? "any" : String(size)))
  return `${dtype} ${sizes ? `[${sizes.join(", ")}]` : "of any shape"}`
}

/**
 * A value that has a tensor's shape and dtype, as JSON: one example.
 * @param {Tensor} tensor
 */
export function example({ dtype, shape }) {
  /** @type {unknown} */
  let value = dtype === "string" ? "text" : dtype === "bool" ? false : 0
  const sizes = shape ?? [-1]
  for (const [at, size] of [...sizes.entries()].reverse()) {
    // Of a free size the first is that of the examples; the others are kept short.
    value = Array.from({ length: size < 0 ? (at === 0 ? 1 : 2) : size }, () => value)
  }
  return JSON.stringify(value)
}

/**
 * The value of an input as it was typed: JSON, or an example a line, whose numbers are separated by
 * commas or spaces.
 * @param {string} text
 * @param {Tensor} tensor
 * @returns {unknown} For JSON.
 */
export function parse(text, tensor) {
  const value = read(text, tensor)
  check(value, tensor, 0)
  return value
}

/**
 * @param {string} text
 * @param {Tensor} tensor
 * @returns {unknown}
 */
function read(text, tensor) {
  const { dtype, shape } = tensor
  try {
    return JSON.parse(text)
  } catch {
    const lines = text.split("\n").filter((line) => line.trim())
    if (!lines.length) throw wrong(tensor, "is empty")
    if (!shape || shape.length < 1 || shape.length > 2) throw wrong(tensor, "is not valid JSON")
    // It was meant to be JSON.
    if (/^\s*[[{]/.test(text)) throw wrong(tensor, "is not valid JSON")
    const rows = lines.map((line) => (dtype === "string" ? [line.trim()] : line.trim().split(/[\s,;]+/)))
    const values = dtype === "string" ? rows : rows.map((row) => row.map((one) => number(one, tensor)))
    return shape.length === 1 ? values.flat() : values
  }
}

/**
 * @param {string} text
 * @param {Tensor} tensor
 */
function number(text, tensor) {
  if (tensor.dtype === "bool" && ["true", "false"].includes(text)) return text === "true"
  const value = Number(text)
  if (text === "" || Number.isNaN(value)) throw wrong(tensor, `has ${JSON.stringify(text)}, which is not a number`)
  return value
}

/**
 * @param {unknown} value
 * @param {Tensor} tensor
 * @param {number} axis
 * @returns {string} The shape below this axis, to compare with that of its neighbours.
 */
function check(value, tensor, axis) {
  const { shape } = tensor
  if (Array.isArray(value)) {
    if (shape && axis >= shape.length) {
      throw wrong(tensor, `is nested ${axis + 1} deep or more, and must be ${shape.length}`)
    }
    const size = shape?.[axis] ?? -1
    if (size >= 0 && value.length !== size) {
      throw wrong(tensor, `has ${value.length} where it must have ${size}`)
    }
    const shapes = new Set(value.map((one) => check(one, tensor, axis + 1)))
    if (shapes.size > 1) throw wrong(tensor, "has rows of different lengths")
    return [value.length, ...shapes].join(" ")
  }
  if (shape && axis < shape.length) {
    throw wrong(tensor, `is nested ${axis} deep, and must be ${shape.length}`)
  }
  checkValue(value, tensor)
  return ""
}

/**
 * @param {unknown} value
 * @param {Tensor} tensor
 */
function checkValue(value, tensor) {
  const { dtype } = tensor
  const shown = JSON.stringify(value)
  if (dtype === "string") {
    const encoded = typeof value === "object" && value !== null && "b64" in value
    if (typeof value !== "string" && !encoded) throw wrong(tensor, `has ${shown}, which is not a string`)
    return
  }
  if (dtype === "bool") {
    if (typeof value !== "boolean") throw wrong(tensor, `has ${shown}, which is not true or false`)
    return
  }
  if (typeof value !== "number") throw wrong(tensor, `has ${shown}, which is not a number`)
  const limits = INTEGERS[dtype]
  if (!limits) return
  if (!Number.isInteger(value)) throw wrong(tensor, `has ${shown}, which is not an integer`)
  if (value < limits[0] || value > limits[1]) throw wrong(tensor, `has ${shown}, which is not a valid ${dtype}`)
}

/**
 * @param {Tensor} tensor
 * @param {string} what
 */
function wrong(tensor, what) {
  return new Failure("input", `${tensor.name} ${what}.`, `It takes ${described(tensor)}.`)
}

/**
 * @param {string} a
 * @param {string} b
 */
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0
}

/**
 * The request of a form as code.
 * @typedef {object} TensorSnippet
 * @property {string} origin
 * @property {string} address Of the model, pinned to a version or label.
 * @property {string} model
 * @property {string} pin As a Python argument: `label="stable"`.
 * @property {boolean} key Whether an API key is needed.
 * @property {string} signature
 * @property {Record<string, unknown>} inputs
 */

/** @param {TensorSnippet} snippet */
export function curl({ address, key, signature, inputs }) {
  const header = key ? `-H "x-api-key: $SERVABLE_API_KEY" ` : ""
  const body = JSON.stringify({ signature_name: signature, inputs }).replaceAll("'", String.raw`'\''`)
  return `curl ${header}'${address.replaceAll("'", "%27")}:predict' \\\n  -d '${body}'`
}

/** @param {TensorSnippet} snippet */
export function python({ origin, model, pin, key, signature, inputs }) {
  const access = key ? `, api_key=os.environ["SERVABLE_API_KEY"]` : ""
  const chosen = signature === "serving_default" ? "" : `, signature=${JSON.stringify(signature)}`
  return [
    ...(key ? ["import os", ""] : []),
    "from servable_client import Client",
    "",
    `with Client(${JSON.stringify(origin)}, model=${JSON.stringify(model)}, ${pin}${access}) as client:`,
    `    print(client.predict(${literal(inputs)}${chosen}))`,
  ].join("\n")
}

/**
 * A value as a Python expression.
 * @param {unknown} value
 * @returns {string}
 */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`
  if (typeof value === "boolean") return value ? "True" : "False"
  if (typeof value === "object" && value !== null) {
    const encoded = /** @type {any} */ (value).b64
    if (typeof encoded === "string") return `__import__("base64").b64decode(${JSON.stringify(encoded)})`
    const entries = Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${literal(one)}`)
    return `{${entries.join(", ")}}`
  }
  return JSON.stringify(value)
}
