import assert from "node:assert/strict"
import { test } from "node:test"

import { isInverted } from "../../../serving/servable_serving/web/inversion.js"

/** @param {number[]} probabilities */
const answer = (...probabilities) => ({ probabilities })

test("the answer to a file is that of the pixels that the signature made of it", () => {
  const [asItIs, inverted] = [answer(0.2, 0.8), answer(0.7, 0.3)]
  assert.equal(isInverted(answer(0.69, 0.31), asItIs, inverted), true)
  assert.equal(isInverted(answer(0.21, 0.79), asItIs, inverted), false)
})
