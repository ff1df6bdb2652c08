// Pictures: files decoded and, where they are large, shrunk before they are sent.

import { context, make } from "./dom.js"
import { Failure } from "./failure.js"

/**
 * @typedef {object} Picture
 * @property {string} name
 * @property {Blob} blob What is sent.
 * @property {ImageData} image Its pixels, turned upright and put on white.
 * @property {string} about Its size, and what was done to it.
 * @property {string} [series] Alike where one is the other, a little further on.
 */

// The server takes up to 4096 x 4096 pixels and 10 MiB. What the model sees is far smaller, so no
// more is sent than keeps the two alike.
const MAX_SIDE = 1024
const MAX_BYTES = 1 << 20
const JPEG_QUALITY = 0.95

// Below this many pixels JPEG would be seen, and saves nothing.
const SMALL = 256 * 256

// Formats that the server decodes, by their first bytes. BMP is not among them, whose 1-bit form
// it refuses.
/** @type {[string, RegExp][]} */
const FORMATS = [
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8/],
  ["image/webp", /^RIFF[^]{4}WEBP/],
]
const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp" }

/**
 * @param {Blob} blob
 * @param {string} name
 * @returns {Promise<Picture>}
 * @throws {Failure} It is no picture.
 */
export async function read(blob, name) {
  const head = String.fromCharCode(...new Uint8Array(await blob.slice(0, 16).arrayBuffer()))
  const format = FORMATS.find(([, magic]) => magic.test(head))?.[0]
  let bitmap
  try {
    // Pixels as the file has them: the model was trained on numbers, not on colour profiles.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" })
  } catch {
    throw new Failure(
      "picture",
      blob.size ? `${name} is not a picture that can be read.` : `${name} is empty.`,
      "Its name does not matter, its content does: take a PNG, JPEG, GIF, BMP or WebP file.",
    )
  }
  const { width, height } = bitmap
  const size = `${width} × ${height}`
  const scale = Math.min(MAX_SIDE / Math.max(width, height), 1)
  const to = [width, height].map((side) => Math.max(Math.round(side * scale), 1))
  const small = scale < 1 ? await shrunk(bitmap, to[0], to[1]) : bitmap
  const image = pixels(small)
  bitmap.close()
  small.close()
  const about = scale < 1 ? `${size}, sent as ${to[0]} × ${to[1]}` : size
  if (format && scale === 1 && blob.size <= MAX_BYTES) {
    return { name, image, about, blob: new Blob([blob], { type: format }) }
  }
  const type = to[0] * to[1] < SMALL ? "image/png" : "image/jpeg"
  return { name, image, about, blob: await encoded(image, type) }
}

/**
 * What a canvas shows.
 * @param {HTMLCanvasElement} canvas
 * @param {string} name
 * @param {"image/png" | "image/jpeg"} type
 * @returns {Promise<Picture>}
 */
export async function snapshot(canvas, name, type) {
  const { width, height } = canvas
  const image = context(canvas).getImageData(0, 0, width, height)
  return { name, image, blob: await encoded(image, type), about: `${width} × ${height}` }
}

/**
 * By halves: a browser's own shrinking looks at few of the pixels where it goes far.
 * @param {ImageBitmap} bitmap
 * @param {number} width
 * @param {number} height
 */
async function shrunk(bitmap, width, height) {
  let now = bitmap
  for (;;) {
    const last = now.width <= 2 * width && now.height <= 2 * height
    const next = await createImageBitmap(now, {
      resizeWidth: last ? width : Math.ceil(now.width / 2),
      resizeHeight: last ? height : Math.ceil(now.height / 2),
      resizeQuality: "high",
    })
    if (now !== bitmap) now.close()
    if (last) return next
    now = next
  }
}

/** @param {ImageBitmap} bitmap */
function pixels(bitmap) {
  const { width, height } = bitmap
  const canvas = make("canvas", { width, height })
  const pen = context(canvas)
  pen.fillStyle = "#fff"
  pen.fillRect(0, 0, width, height)
  pen.drawImage(bitmap, 0, 0)
  return pen.getImageData(0, 0, width, height)
}

/**
 * @param {ImageData} image
 * @param {string} type
 * @returns {Promise<Blob>}
 */
function encoded(image, type) {
  const canvas = make("canvas", { width: image.width, height: image.height })
  context(canvas).putImageData(image, 0, 0)
  return new Promise((done, failed) =>
    canvas.toBlob(
      (blob) => (blob ? done(blob) : failed(new Error("the browser cannot encode it"))),
      type,
      JPEG_QUALITY,
    ),
  )
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
export function base64(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader()
    reader.onload = () => done(String(reader.result).replace(/^[^,]*,/, ""))
    reader.onerror = () => failed(reader.error)
    reader.readAsDataURL(blob)
  })
}

/**
 * The name that a picture would be kept under: that of its file, as it is sent.
 * @param {Picture} picture
 */
export function fileName({ name, blob }) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "-") || "picture"
  const ending = ENDINGS[/** @type {keyof typeof ENDINGS} */ (blob.type)] ?? "png"
  return `${stem}.${ending}`
}

/**
 * Draw a picture into a canvas, as large as goes.
 * @param {ImageData} image
 * @param {HTMLCanvasElement} canvas
 */
export async function thumbnail(image, canvas) {
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height)
  const [width, height] = [image.width * scale, image.height * scale]
  const bitmap = await createImageBitmap(image)
  const pen = context(canvas)
  pen.imageSmoothingEnabled = scale < 2
  pen.imageSmoothingQuality = "high"
  pen.clearRect(0, 0, canvas.width, canvas.height)
  pen.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height)
  bitmap.close()
}
