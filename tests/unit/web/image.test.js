import assert from "node:assert/strict"
import { test } from "node:test"

import { formatOf } from "../../../serving/servable_serving/web/image.js"

/**
 * @param {string} text
 * @param {number} flags
 */
function webp(text, flags = 0) {
  const head = new Uint8Array(32)
  for (const [at, character] of [..."RIFF....WEBP"].entries()) head[at] = character.charCodeAt(0)
  for (const [at, character] of [...text].entries()) head[12 + at] = character.charCodeAt(0)
  head[20] = flags
  return head
}

test("the format is told by the first bytes", () => {
  assert.equal(formatOf(new TextEncoder().encode("GIF89a")), "image/gif")
  assert.equal(formatOf(new Uint8Array([0xff, 0xd8, 0xff, 0xe0])), "image/jpeg")
  assert.equal(formatOf(new TextEncoder().encode("text")), undefined)
  assert.equal(formatOf(new Uint8Array()), undefined)
})

test("an animated WebP is not sent as it is", () => {
  assert.equal(formatOf(webp("VP8 ")), "image/webp")
  assert.equal(formatOf(webp("VP8L", 2)), "image/webp")
  assert.equal(formatOf(webp("VP8X", 0x10)), "image/webp")
  assert.equal(formatOf(webp("VP8X", 0x02)), undefined)
  assert.equal(formatOf(webp("VP8X", 0x12)), undefined)
})
