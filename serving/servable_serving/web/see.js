// What the model sees: the steps of the `serving_bytes` signature, done to a picture's pixels.
//
// They are those of servable_serving/export/classifier.py, and tests hold the two against each other.

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
 * @property {boolean} light Whether the border is light, so that the signature inverts it.
 * @property {boolean} inverted Whether it was inverted.
 */

// ITU-R BT.601, as Pillow's convert("L").
const [RED, GREEN, BLUE] = [0.299, 0.587, 0.114]

/**
 * @param {ImageData} image Opaque.
 * @param {Shape} shape
 * @param {boolean} [invert] Whether to invert it; as the signature would unless given.
 * @returns {Sight}
 */
export function see(image, shape, invert) {
  const planes = shape.channels === 1 ? [grey(image)] : [0, 1, 2].map((c) => plane(image, c))
  const grounds = planes.map((values) => border(values, image.width, image.height))
  const light = shape.channels === 1 && grounds[0] > 127.5
  const inverted = shape.channels === 1 && (invert ?? light)
  const pixels = new Uint8ClampedArray(shape.height * shape.width * shape.channels)
  planes.forEach((values, channel) => {
    const ground = shape.channels === 1 ? grounds[channel] : Math.round(grounds[channel])
    const small = shrink(values, image.width, image.height, ground, shape)
    for (let i = 0; i < small.length; i++) {
      pixels[i * shape.channels + channel] = inverted ? 255 - small[i] : small[i]
    }
  })
  return { pixels, shape, light, inverted }
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
    const step = y === 0 || y === height - 1 ? 1 : Math.max(width - 1, 1)
    for (let x = 0; x < width; x += step) {
      sum += values[y * width + x]
      count++
    }
  }
  return sum / count
}

/**
 * Centre a plane on a ground of `shape`'s proportions, and shrink it with anti-aliasing.
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 * @param {number} ground
 * @param {Shape} shape
 */
function shrink(values, width, height, ground, shape) {
  const ratio = shape.width / shape.height
  const fullHeight = Math.max(height, Math.round(width / ratio))
  const fullWidth = Math.max(width, Math.round(height * ratio))
  const above = Math.floor((fullHeight - height) / 2)
  const left = Math.floor((fullWidth - width) / 2)
  const across = kernel(fullWidth, shape.width)
  const down = kernel(fullHeight, shape.height)
  // Less the ground, what lies outside the picture is 0 and need not be there.
  const rows = new Float64Array(height * shape.width)
  across.forEach(({ start, weights }, x) => {
    const first = Math.max(start - left, 0)
    const last = Math.min(start - left + weights.length, width)
    for (let y = 0; y < height; y++) {
      let sum = 0
      for (let i = first; i < last; i++) {
        sum += (values[y * width + i] - ground) * weights[i + left - start]
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
  return small.map((value) => value + ground)
}

/**
 * tf.image.resize(antialias=True): a triangle as wide as the scale, over the pixels' centres.
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
 * As the `serving_default` signature takes it: nested arrays of [height, width(, channels)].
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
