import assert from "node:assert/strict"
import { test } from "node:test"

import { ranked } from "../../../serving/servable_serving/web/answers.js"
import { percent } from "../../../serving/servable_serving/web/dom.js"

test("the most likely class is first, with its number", () => {
  assert.deepEqual(ranked([0.1, 0.6, 0.3]), [
    [1, 0.6],
    [2, 0.3],
    [0, 0.1],
  ])
})

test("equal probabilities keep the order of the class numbers", () => {
  assert.deepEqual(
    ranked([0.25, 0.5, 0.25]).map(([number]) => number),
    [1, 0, 2],
  )
})

test("ten classes are shown at most", () => {
  const probabilities = Array.from({ length: 12 }, (_, i) => i / 66)
  assert.deepEqual(
    ranked(probabilities).map(([number]) => number),
    [11, 10, 9, 8, 7, 6, 5, 4, 3, 2],
  )
})

for (const [share, text] of /** @type {[number, string][]} */ ([
  [0, "0.0 %"],
  [0.0009, "< 0.1 %"],
  [0.001, "0.1 %"],
  [0.123, "12.3 %"],
  [0.9995, "> 99.9 %"],
  [1, "100.0 %"],
])) {
  test(`a share of ${share} is shown as ${text}`, () => {
    assert.equal(percent(share), text)
  })
}
