import assert from "node:assert/strict"
import { test } from "node:test"

import { matchNames } from "../../../serving/servable_serving/web/names.js"

/**
 * @param {Record<string, number>} scores By name.
 * @returns {[string, number][]} As `classify` gives them.
 */
const named = (scores) => Object.entries(scores).sort(([, a], [, b]) => b - a)

test("scores that differ give each class number its name", () => {
  const found = matchNames(
    [named({ Bag: 0.1, Coat: 0.6, Shirt: 0.3 })],
    [{ probabilities: [0.6, 0.1, 0.3] }],
  )
  assert.deepEqual(found, ["Coat", "Bag", "Shirt"])
})

test("scores that are nearly equal give no name", () => {
  const found = matchNames(
    [named({ Bag: 0.6, Coat: 0.2001, Shirt: 0.2 })],
    [{ probabilities: [0.6, 0.2001, 0.2] }],
  )
  assert.deepEqual(found, ["Bag", undefined, undefined])
})

test("another image gives the names that one leaves open", () => {
  const found = matchNames(
    [named({ Bag: 0.5, Coat: 0.5 }), named({ Bag: 0.7, Coat: 0.3 })],
    [{ probabilities: [0.5, 0.5] }, { probabilities: [0.3, 0.7] }],
  )
  assert.deepEqual(found, ["Coat", "Bag"])
})

test("images that contradict each other give no name", () => {
  const found = matchNames(
    [named({ Bag: 0.7, Coat: 0.3 }), named({ Bag: 0.7, Coat: 0.3 })],
    [{ probabilities: [0.7, 0.3] }, { probabilities: [0.3, 0.7] }],
  )
  assert.deepEqual(found, [undefined, undefined])
})

test("scores of another model are not used", () => {
  const found = matchNames(
    [named({ Bag: 0.7, Coat: 0.3 })],
    [{ probabilities: [0.8, 0.2] }],
  )
  assert.deepEqual(found, [undefined, undefined])
})

test("a list of another length is not used", () => {
  const found = matchNames(
    [named({ Bag: 0.7 })],
    [{ probabilities: [0.7, 0.3] }],
  )
  assert.deepEqual(found, [undefined, undefined])
})

test("rounding of scores on their way is tolerated", () => {
  const found = matchNames(
    [named({ Bag: 0.70000005, Coat: 0.29999995 })],
    [{ probabilities: [0.7, 0.3] }],
  )
  assert.deepEqual(found, ["Bag", "Coat"])
})
