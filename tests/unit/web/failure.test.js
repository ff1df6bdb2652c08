import assert from "node:assert/strict"
import { mock, test } from "node:test"

import { Failure, refusal, retried } from "../../../serving/servable_serving/web/failure.js"

for (const [status, kind] of /** @type {[number, string][]} */ ([
  [400, "rejected"],
  [401, "key"],
  [403, "key"],
  [404, "missing"],
  [413, "rejected"],
  [429, "busy"],
  [500, "failed"],
  [502, "unreachable"],
  [503, "unreachable"],
  [504, "unreachable"],
])) {
  test(`status ${status} is a failure of kind ${kind}`, () => {
    assert.equal(refusal(status, "why", false).kind, kind)
  })
}

test("a key that is missing is told from one that is rejected", () => {
  assert.notEqual(refusal(401, "", false).message, refusal(401, "", true).message)
})

test("a model that is missing is told from a server that is not there", () => {
  assert.ok(refusal(404, "Servable not found", false).message.includes("Servable not found"))
  assert.notEqual(refusal(404, "", false).message, refusal(404, "x", false).message)
})

/** Lets whatever waits for a promise go on. */
const settle = () => new Promise((done) => setImmediate(done))

/**
 * @param {() => Promise<unknown>} ask
 * @returns {Promise<{result: Promise<unknown>, waits: number[]}>} The intervals that were waited.
 */
async function run(ask) {
  mock.timers.enable({ apis: ["setTimeout"] })
  try {
    /** @type {number[]} */
    const waits = []
    let done = false
    const result = retried(ask)
    result.then(
      () => (done = true),
      () => (done = true),
    )
    await settle()
    for (let wait = 400; !done && wait < 1e6; wait *= 2) {
      waits.push(wait)
      mock.timers.tick(wait - 1)
      await settle()
      assert.equal(done, false, "it did not wait long enough")
      mock.timers.tick(1)
      await settle()
    }
    return { result, waits }
  } finally {
    mock.timers.reset()
  }
}

const busy = () => new Failure("busy", "", "")

test("what succeeds is asked once", async () => {
  const ask = mock.fn(async () => 7)
  const { result, waits } = await run(ask)
  assert.equal(await result, 7)
  assert.deepEqual([ask.mock.callCount(), waits], [1, []])
})

test("a busy server is asked again at growing intervals", async () => {
  let calls = 0
  const { result, waits } = await run(async () => {
    if (++calls < 4) throw busy()
    return "done"
  })
  assert.equal(await result, "done")
  assert.deepEqual(waits, [400, 800, 1600])
})

test("a server that stays busy is given up", async () => {
  const ask = mock.fn(async () => {
    throw busy()
  })
  const { result, waits } = await run(ask)
  await assert.rejects(result, { kind: "busy" })
  assert.deepEqual(waits, [400, 800, 1600, 3200])
  assert.equal(ask.mock.callCount(), 5)
})

test("any other failure is not retried", async () => {
  const ask = mock.fn(async () => {
    throw new Failure("rejected", "", "")
  })
  const { result } = await run(ask)
  await assert.rejects(result, { kind: "rejected" })
  assert.equal(ask.mock.callCount(), 1)
})
