import assert from "node:assert/strict"
import { beforeEach, test } from "node:test"

import { Store } from "../../../serving/servable_serving/web/store.js"
import { image } from "./values.js"

/** @type {Store} */
let store

beforeEach(() => {
  store = new Store()
})

const names = () => store.history.map((entry) => entry.image.name)

test("another image does not keep the inversion chosen for the one before", () => {
  store.show(image("a.png"))
  store.inversion = true
  store.show(image("b.png"))
  assert.equal(store.inversion, undefined)
})

test("the next state of a drawing keeps the inversion", () => {
  store.show(image("drawing", "drawing 1"))
  store.inversion = true
  store.show(image("drawing", "drawing 1"))
  assert.equal(store.inversion, true)
})

test("another drawing does not keep the inversion", () => {
  store.show(image("drawing", "drawing 1"))
  store.inversion = true
  store.show(image("drawing", "drawing 2"))
  assert.equal(store.inversion, undefined)
})

test("an image of the history comes back with its inversion", () => {
  store.show(image("a.png"), false)
  assert.equal(store.inversion, false)
})

test("the newest image is the first of the history", () => {
  store.remember(image("a.png"))
  const change = store.remember(image("b.png"))
  assert.deepEqual(names(), ["b.png", "a.png"])
  assert.deepEqual([change.replaced, change.dropped], [-1, false])
})

test("the history keeps the inversion that was chosen", () => {
  store.inversion = true
  assert.equal(store.remember(image("a.png")).entry.inversion, true)
})

test("a drawing replaces its earlier state wherever that is", () => {
  store.remember(image("drawing", "drawing 1"))
  store.remember(image("b.png"))
  const change = store.remember(image("drawing", "drawing 1"))
  assert.deepEqual(names(), ["drawing", "b.png"])
  assert.equal(change.replaced, 1)
})

test("images without a series never replace each other", () => {
  store.remember(image("a.png"))
  assert.equal(store.remember(image("a.png")).replaced, -1)
  assert.deepEqual(names(), ["a.png", "a.png"])
})

test("the history holds sixteen images and drops the oldest", () => {
  const dropped = Array.from({ length: 17 }, (_, i) => store.remember(image(`${i}`)).dropped)
  assert.deepEqual(dropped, [...Array(16).fill(false), true])
  assert.deepEqual(names(), Array.from({ length: 16 }, (_, i) => `${16 - i}`))
})
