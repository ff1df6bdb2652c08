import assert from "node:assert/strict"
import { mock, test } from "node:test"

import { Failure } from "../../../serving/servable_serving/web/failure.js"
import { Latest, predict } from "../../../serving/servable_serving/web/predict.js"
import { image, sight } from "./values.js"

/** @import { Prediction } from "../../../serving/servable_serving/web/api.js" */
/** @import { Question } from "../../../serving/servable_serving/web/predict.js" */

/** @type {Question} The page's own pixels: no file is read. */
const question = {
  image: image("a.png"),
  sight: sight([5], { height: 1, width: 1, channels: 1 }),
  own: true,
}
/** @type {Prediction} */
const prediction = { probabilities: [0.25, 0.75], classId: 1, label: "Coat" }

/** A server with two versions, of which the label `stable` is the first until it is looked at. */
function fakeServer() {
  return {
    model: "garments",
    /** @type {Failure | null} */
    failure: null,
    current: 1,
    /** @type {(string | undefined)[]} */
    known: [],
    resolve() {
      return this.current
    },
    async names() {
      return this.known
    },
    async look() {},
  }
}

test("the page's own pixels go to serving_default of the target's version", async () => {
  const ask = mock.fn(async () => [prediction])
  await predict({ predict: ask }, fakeServer(), question, "label:stable")
  assert.deepEqual(ask.mock.calls[0].arguments, ["garments", 1, "serving_default", [[[5]]]])
})

test("an answer has its version and all names that are known", async () => {
  const server = fakeServer()
  server.known = ["Bag", undefined]
  const found = await predict({ predict: async () => [prediction] }, server, question, "newest")
  assert.deepEqual([found.version, found.names], [1, ["Bag", "Coat"]])
})

test("a class without a known name has its number", async () => {
  const found = await predict({ predict: async () => [prediction] }, fakeServer(), question, "newest")
  assert.deepEqual(found.names, ["class 0", "Coat"])
})

test("when the label has moved, its new version is asked", async () => {
  const server = fakeServer()
  server.look = async () => {
    server.current = 2
  }
  const api = {
    predict: async (/** @type {string} */ _, /** @type {number} */ version) => {
      if (version === 1) throw new Failure("missing", "", "")
      return [prediction]
    },
  }
  assert.equal((await predict(api, server, question, "label:stable")).version, 2)
})

test("when the label has not moved, the failure is passed on", async () => {
  const ask = mock.fn(async () => {
    throw new Failure("missing", "", "")
  })
  const found = predict({ predict: ask }, fakeServer(), question, "label:stable")
  await assert.rejects(found, { kind: "missing" })
  assert.equal(ask.mock.callCount(), 1)
})

test("any other failure is passed on without looking at the server", async () => {
  const server = fakeServer()
  const look = mock.method(server, "look")
  const ask = async () => {
    throw new Failure("unreachable", "", "")
  }
  await assert.rejects(predict({ predict: ask }, server, question, "newest"), { kind: "unreachable" })
  assert.equal(look.mock.callCount(), 0)
})

/** A job that runs until it is told to end. */
function jobs() {
  /** @type {number[]} */
  const ran = []
  /** @type {(() => void)[]} */
  const ends = []
  const latest = new Latest(async (/** @type {number} */ job) => {
    ran.push(job)
    await new Promise((done) => ends.push(() => done(undefined)))
  })
  return { latest, ran, end: () => ends.shift()?.() }
}

test("of the jobs that come meanwhile only the latest is run", async () => {
  const { latest, ran, end } = jobs()
  const first = latest.put(1)
  await latest.put(2)
  await latest.put(3)
  assert.deepEqual([ran, latest.waiting], [[1], 3])
  end()
  await new Promise((done) => setImmediate(done))
  assert.deepEqual([ran, latest.waiting], [[1, 3], null])
  end()
  await first
  assert.deepEqual(ran, [1, 3])
})

test("after a job that fails the next one is run", async () => {
  let calls = 0
  const latest = new Latest(async () => {
    if (++calls === 1) throw new Error("no")
  })
  await assert.rejects(latest.put(1))
  await latest.put(2)
  assert.equal(calls, 2)
})
