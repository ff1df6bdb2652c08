// Images: files decoded and, if they are large, resized before they are sent.

import { context, make } from "./dom.js"
import { Failure } from "./failure.js"

/**
 * An image that was read.
 * @typedef {object} LoadedImage
 * @property {string} name
 * @property {Blob} blob What is sent.
 * @property {ImageData} data Its pixels, upright and on a white background.
 * @property {string} about Its size, and what was done to it.
 * @property {string} [series] The same for successive states of one drawing or film.
 */

// The server accepts up to 4096 x 4096 pixels and 10 MiB. The model's input is far smaller: what is
// sent has only to be large enough that resizing it twice makes no visible difference.
const MAX_SIDE = 1024
const MAX_BYTES = 1 << 20
const JPEG_QUALITY = 0.95

// Below this many pixels, JPEG artefacts would matter, and it saves nothing.
const SMALL = 256 * 256

// Formats that the server decodes, by their first bytes. BMP is left out: the server rejects its
// 1-bit form.
/** @type {[string, RegExp][]} */
const FORMATS = [
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8/],
  ["image/webp", /^RIFF[^]{4}WEBP/],
]
const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp" }

/**
 * The type of an image file that can be sent as it is.
 * @param {Uint8Array} head Its first 32 bytes.
 */
export function formatOf(head) {
  const text = String.fromCharCode(...head)
  // An animated WebP is refused: its first frame is sent. RFC 9649, 2.7: a flag of the VP8X chunk.
  if (/^RIFF[^]{4}WEBPVP8X/.test(text) && head[20] & 2) return undefined
  return FORMATS.find(([, magic]) => magic.test(text))?.[0]
}

/**
 * @param {Blob} blob
 * @param {string} name
 * @returns {Promise<LoadedImage>}
 * @throws {Failure} It is not a valid image.
 */
export async function read(blob, name) {
  const head = new Uint8Array(await blob.slice(0, 32).arrayBuffer())
  const format = formatOf(head)
  let bitmap
  try {
    // Pixels as the file has them: the model was not trained with colour profiles.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" })
  } catch {
    throw new Failure(
      "image",
      blob.size ? `${name} is not a valid image.` : `${name} is empty.`,
      "Choose a PNG, JPEG, GIF, BMP or WebP file; the content decides, not the name.",
    )
  }
  const { width, height } = bitmap
  const size = `${width} × ${height}`
  const scale = Math.min(MAX_SIDE / Math.max(width, height), 1)
  const to = [width, height].map((side) => Math.max(Math.round(side * scale), 1))
  const small = scale < 1 ? await resized(bitmap, to[0], to[1]) : bitmap
  const data = pixels(small)
  bitmap.close()
  small.close()
  const about = scale < 1 ? `${size}, sent as ${to[0]} × ${to[1]}` : size
  if (format && scale === 1 && blob.size <= MAX_BYTES) {
    return { name, data, about, blob: new Blob([blob], { type: format }) }
  }
  const type = to[0] * to[1] < SMALL ? "image/png" : "image/jpeg"
  return { name, data, about, blob: await encoded(data, type) }
}

/**
 * The current content of a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {string} name
 * @param {"image/png" | "image/jpeg"} type
 * @returns {Promise<LoadedImage>}
 */
export async function snapshot(canvas, name, type) {
  const { width, height } = canvas
  const data = context(canvas).getImageData(0, 0, width, height)
  return { name, data, blob: await encoded(data, type), about: `${width} × ${height}` }
}

/**
 * By halves: a browser that reduces an image a lot at once samples only few of its pixels.
 * @param {ImageBitmap} bitmap
 * @param {number} width
 * @param {number} height
 */
async function resized(bitmap, width, height) {
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
 * The name to save an image under, with the ending of what is sent.
 * @param {LoadedImage} image
 */
export function fileName({ name, blob }) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "-") || "image"
  const ending = ENDINGS[/** @type {keyof typeof ENDINGS} */ (blob.type)] ?? "png"
  return `${stem}.${ending}`
}

/**
 * Draw an image into a canvas, as large as fits.
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
