// What the model sees: the preprocessing of the `serving_bytes` signature, in the browser.
//
// It mirrors servable_serving/model/preprocessing.py; tests/unit/web/see.test.js compares the two.

/**
 * @typedef {object} Shape
 * @property {number} height
 * @property {number} width
 * @property {1 | 3} channels 1 for grey.
 */
/**
 * @typedef {object} Sight
 * @property {Uint8ClampedArray} pixels [height, width, channels]
 * @property {Shape} shape
 * @property {boolean} light Whether it is grey and its border is light.
 * @property {boolean} automatic Whether the signature inverts the image.
 * @property {boolean} inverted Whether these pixels are inverted.
 */

// ITU-R BT.601, as Pillow's convert("L").
const [RED, GREEN, BLUE] = [0.299, 0.587, 0.114]

/**
 * @param {ImageData} image Opaque.
 * @param {Shape} shape
 * @param {object} [options]
 * @param {boolean} [options.invert] Whether to invert it; default: as the signature does.
 * @param {boolean} [options.inverts] Whether the signature inverts images with a light border.
 * @returns {Sight}
 */
export function see(image, shape, { invert, inverts = true } = {}) {
  const planes = shape.channels === 1 ? [grey(image)] : [0, 1, 2].map((c) => plane(image, c))
  const backgrounds = planes.map((values) => border(values, image.width, image.height))
  const light = shape.channels === 1 && backgrounds[0] > 127.5
  const automatic = light && inverts
  const inverted = shape.channels === 1 && (invert ?? automatic)
  const pixels = new Uint8ClampedArray(shape.height * shape.width * shape.channels)
  planes.forEach((values, channel) => {
    const background = shape.channels === 1 ? backgrounds[channel] : round(backgrounds[channel])
    const small = resize(values, image.width, image.height, background, shape)
    for (let i = 0; i < small.length; i++) {
      pixels[i * shape.channels + channel] = inverted ? 255 - small[i] : small[i]
    }
  })
  return { pixels, shape, light, automatic, inverted }
}

/** @param {ImageData} image */
function grey({ data, width, height }) {
  const values = new Float32Array(width * height)
  for (let i = 0, at = 0; i < values.length; i++, at += 4) {
    values[i] = RED * data[at] + GREEN * data[at + 1] + BLUE * data[at + 2]
  }
  return values
}

/**
 * @param {ImageData} image
 * @param {number} channel
 */
function plane({ data, width, height }, channel) {
  const values = new Float32Array(width * height)
  for (let i = 0; i < values.length; i++) values[i] = data[i * 4 + channel]
  return values
}

/**
 * The mean of the outermost pixels.
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 */
function border(values, width, height) {
  let sum = 0
  let count = 0
  for (let y = 0; y < height; y++) {
    const row = values.subarray(y * width, (y + 1) * width)
    // Of the rows between, both ends: a column of one pixel counts twice, as in the graph.
    const edge = y === 0 || y === height - 1 ? row : [row[0], row[width - 1]]
    for (const value of edge) sum += value
    count += edge.length
  }
  return sum / count
}

/**
 * tf.round: a half goes to the even neighbour, where Math.round takes the upper one.
 * @param {number} value
 */
function round(value) {
  const below = Math.floor(value)
  return value - below === 0.5 ? below + (below % 2) : Math.round(value)
}

/**
 * Centre a plane on a background of `shape`'s proportions and resize it with anti-aliasing.
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 * @param {number} background
 * @param {Shape} shape
 */
function resize(values, width, height, background, shape) {
  const ratio = shape.width / shape.height
  const fullHeight = Math.max(height, round(width / ratio))
  const fullWidth = Math.max(width, round(height * ratio))
  const above = Math.floor((fullHeight - height) / 2)
  const left = Math.floor((fullWidth - width) / 2)
  const across = kernel(fullWidth, shape.width)
  const down = kernel(fullHeight, shape.height)
  // With the background subtracted, the padding is 0 and can be left out.
  const rows = new Float64Array(height * shape.width)
  across.forEach(({ start, weights }, x) => {
    const first = Math.max(start - left, 0)
    const last = Math.min(start - left + weights.length, width)
    for (let y = 0; y < height; y++) {
      let sum = 0
      for (let i = first; i < last; i++) {
        sum += (values[y * width + i] - background) * weights[i + left - start]
      }
      rows[y * shape.width + x] = sum
    }
  })
  const small = new Float64Array(shape.height * shape.width)
  down.forEach(({ start, weights }, y) => {
    const first = Math.max(start - above, 0)
    const last = Math.min(start - above + weights.length, height)
    for (let i = first; i < last; i++) {
      const weight = weights[i + above - start]
      for (let x = 0; x < shape.width; x++) {
        small[y * shape.width + x] += rows[i * shape.width + x] * weight
      }
    }
  })
  return small.map((value) => value + background)
}

/**
 * The weights of tf.image.resize(antialias=True): a triangle as wide as the scale, over pixel centres.
 * @param {number} from
 * @param {number} to
 */
function kernel(from, to) {
  const scale = from / to
  const reach = Math.max(scale, 1)
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale
    const start = Math.max(Math.ceil(centre - reach - 0.5), 0)
    const end = Math.min(Math.floor(centre + reach - 0.5), from - 1)
    const weights = Array.from({ length: end - start + 1 }, (_, k) =>
      Math.max(1 - Math.abs((start + k + 0.5 - centre) / reach), 0),
    )
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    return { start, weights: weights.map((weight) => weight / total) }
  })
}

/**
 * The input of the `serving_default` signature: nested arrays of [height, width(, channels)].
 * @param {Sight} sight
 */
export function nested({ pixels, shape }) {
  return Array.from({ length: shape.height }, (_, y) =>
    Array.from({ length: shape.width }, (_, x) => {
      const at = (y * shape.width + x) * shape.channels
      return shape.channels === 1 ? pixels[at] : [...pixels.subarray(at, at + shape.channels)]
    }),
  )
}

/**
 * @param {Sight} sight
 * @param {HTMLCanvasElement} canvas
 */
export function paint({ pixels, shape }, canvas) {
  canvas.width = shape.width
  canvas.height = shape.height
  const image = new ImageData(shape.width, shape.height)
  for (let i = 0; i < shape.width * shape.height; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[i * 4 + c] = pixels[i * shape.channels + (shape.channels === 1 ? 0 : c)]
    }
    image.data[i * 4 + 3] = 255
  }
  canvas.getContext("2d")?.putImageData(image, 0, 0)
}
