import assert from "node:assert/strict"
import { test } from "node:test"

import { csv } from "../../../serving/servable_serving/web/csv.js"
import { answer } from "./values.js"

const HEADER = "picture,label,class_id,probability,version,error\r\n"

test("no rows give the header alone", () => {
  assert.equal(csv([]), HEADER)
})

test("a row has the label, the class, its probability and the version", () => {
  const row = { name: "a.png", answer: answer({ version: 7 }), error: "" }
  assert.equal(csv([row]), `${HEADER}a.png,Coat,1,0.75,7,\r\n`)
})

test("class 0 and probability 0 are written", () => {
  const found = answer({ label: "Bag", classId: 0, probabilities: [0, 0] })
  assert.equal(csv([{ name: "a.png", answer: found, error: "" }]), `${HEADER}a.png,Bag,0,0,1,\r\n`)
})

test("a file that failed has its error and empty columns", () => {
  const row = { name: "a.png", answer: null, error: "a.png is empty." }
  assert.equal(csv([row]), `${HEADER}a.png,,,,,a.png is empty.\r\n`)
})

for (const [what, name, written] of [
  ["a comma", "a, b.png", '"a, b.png"'],
  ["a quotation mark", 'a "b".png', '"a ""b"".png"'],
  ["a line feed", "a\nb.png", '"a\nb.png"'],
  ["a carriage return", "a\rb.png", '"a\rb.png"'],
]) {
  test(`a name with ${what} is quoted`, () => {
    const line = csv([{ name, answer: null, error: "" }]).slice(HEADER.length)
    assert.equal(line, `${written},,,,,\r\n`)
  })
}
