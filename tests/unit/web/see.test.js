// The page's preprocessing, compared with what the model's graph makes of the same pixels.
//
// tests/functional/serving/test_web_fixture.py writes the expected values and keeps them current.

import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"

import { nested, see } from "../../../serving/servable_serving/web/see.js"

/** @import { Shape } from "../../../serving/servable_serving/web/see.js" */

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {number} height
 * @property {number} width
 * @property {string} rgb uint8 [height, width, 3] in base64.
 * @property {Shape} shape
 * @property {string} expected uint8 [shape.height, shape.width, shape.channels] in base64.
 */

// The graph computes in 32 bits and the page in 64: a value near a half is rounded either way.
const LEVELS = 1

/** @type {Case[]} */
const cases = JSON.parse(
  readFileSync(new URL("fixtures/preprocessing.json", import.meta.url), "utf8"),
)

/**
 * @param {Uint8Array} rgb
 * @param {number} width
 * @param {number} height
 * @returns {ImageData}
 */
function opaque(rgb, width, height) {
  const data = new Uint8ClampedArray(width * height * 4).fill(255)
  for (let i = 0; i < width * height; i++) data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i)
  return { data, width, height, colorSpace: "srgb" }
}

/**
 * @param {number} width
 * @param {number} height
 * @param {number} level
 */
function grey(width, height, level) {
  return opaque(new Uint8Array(width * height * 3).fill(level), width, height)
}

const square = /** @type {Shape} */ ({ height: 4, width: 4, channels: 1 })

for (const { name, height, width, rgb, shape, expected } of cases) {
  test(`see() agrees with the graph: ${name}`, () => {
    const image = opaque(Buffer.from(rgb, "base64"), width, height)
    const { pixels } = see(image, shape)
    const graph = Buffer.from(expected, "base64")
    assert.equal(pixels.length, graph.length)
    const apart = graph.map((level, i) => Math.abs(level - pixels[i]))
    assert.ok(Math.max(...apart) <= LEVELS, `${Math.max(...apart)} levels apart`)
  })
}

test("an image of the model's size with a dark border is not changed", () => {
  const found = cases.find(({ name }) => name === "the model's own size, dark border")
  assert.ok(found)
  const image = opaque(Buffer.from(found.rgb, "base64"), found.width, found.height)
  const { pixels, light, inverted } = see(image, { height: 28, width: 28, channels: 3 })
  assert.deepEqual([...pixels], [...Buffer.from(found.rgb, "base64")])
  assert.deepEqual([light, inverted], [false, false])
})

test("a light border is inverted unless the user decides otherwise", () => {
  const light = grey(4, 4, 200)
  assert.deepEqual([...see(light, square).pixels], Array(16).fill(55))
  assert.deepEqual([...see(light, square, { invert: false }).pixels], Array(16).fill(200))
  assert.deepEqual([...see(grey(4, 4, 50), square, { invert: true }).pixels], Array(16).fill(205))
})

test("a chosen inversion does not change what the border is", () => {
  const { light, inverted } = see(grey(4, 4, 200), square, { invert: false })
  assert.deepEqual([light, inverted], [true, false])
})

test("nothing is inverted for a model that takes images as they are", () => {
  const { pixels, light, automatic, inverted } = see(grey(4, 4, 200), square, { inverts: false })
  assert.deepEqual([light, automatic, inverted], [true, false, false])
  assert.deepEqual([...pixels], Array(16).fill(200))
  const chosen = see(grey(4, 4, 200), square, { invert: true, inverts: false })
  assert.deepEqual([...chosen.pixels], Array(16).fill(55))
})

test("colour is never inverted", () => {
  const shape = /** @type {Shape} */ ({ height: 1, width: 1, channels: 3 })
  const { pixels, light, inverted } = see(grey(2, 2, 240), shape, { invert: true })
  assert.deepEqual([[...pixels], light, inverted], [[240, 240, 240], false, false])
})

test("nested() gives rows of numbers in grey", () => {
  const pixels = Uint8ClampedArray.of(1, 2, 3, 4, 5, 6)
  const shape = /** @type {Shape} */ ({ height: 2, width: 3, channels: 1 })
  assert.deepEqual(nested({ pixels, shape, light: false, automatic: false, inverted: false }), [
    [1, 2, 3],
    [4, 5, 6],
  ])
})

test("nested() gives rows of triples in colour", () => {
  const pixels = Uint8ClampedArray.of(1, 2, 3, 4, 5, 6)
  const shape = /** @type {Shape} */ ({ height: 2, width: 1, channels: 3 })
  assert.deepEqual(nested({ pixels, shape, light: false, automatic: false, inverted: false }), [
    [[1, 2, 3]],
    [[4, 5, 6]],
  ])
})
