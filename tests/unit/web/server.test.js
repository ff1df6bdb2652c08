import assert from "node:assert/strict"
import { afterEach, beforeEach, mock, test } from "node:test"

import { Failure } from "../../../serving/servable_serving/web/failure.js"
import { Server } from "../../../serving/servable_serving/web/server.js"

/** @import { Version } from "../../../serving/servable_serving/web/api.js" */

/** What a model server knows of one model, and the requests that it gets. */
class FakeApi {
  /** @type {Version[]} */
  versions = [
    { number: 2, state: "AVAILABLE", error: "" },
    { number: 1, state: "AVAILABLE", error: "" },
  ]
  /** @type {Record<string, number>} */
  labels = { stable: 1 }
  /** @type {unknown[]} */
  dims = [{ size: "-1" }, { size: "28" }, { size: "28" }]
  /** @type {Failure | null} */
  failure = null
  /** @type {string[]} */
  asked = []

  /** @param {string} model */
  async status(model) {
    this.asked.push(model)
    if (this.failure) throw this.failure
    return this.versions
  }

  /**
   * @param {string} model
   * @param {string} [pin]
   */
  async metadata(model, pin = "") {
    this.asked.push(`${model}${pin}`)
    const label = pin.replace("/labels/", "")
    const version = pin ? this.labels[label] : this.versions[0].number
    if (version === undefined) throw new Failure("missing", "", "")
    const image = { tensor_shape: { dim: this.dims } }
    return { version, signatures: { serving_default: { inputs: { image } } } }
  }

  /** @returns {Promise<never>} */
  async predict() {
    throw new Failure("rejected", "", "")
  }

  /** @returns {Promise<never>} */
  async classify() {
    throw new Failure("rejected", "", "")
  }
}

/** @type {FakeApi} */
let api
const page = { hidden: false, addEventListener() {} }

beforeEach(() => {
  api = new FakeApi()
  page.hidden = false
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 })
})
afterEach(() => mock.timers.reset())

/** @param {string[]} labels */
const make = (...labels) => new Server(api, "garments", labels, page)

/** @param {number} ms */
async function after(ms) {
  api.asked = []
  mock.timers.tick(ms)
  await new Promise((done) => setImmediate(done))
  return api.asked
}

test("versions, labels and the newest one are found", async () => {
  const server = make()
  await server.look()
  assert.equal(server.failure, null)
  assert.deepEqual(server.available, [2, 1])
  assert.deepEqual([...server.labels], [["stable", 1]])
  assert.equal(server.newest?.version, 2)
  assert.equal(server.seen.getTime(), 1_000_000)
})

test("labels of the address are asked for too", async () => {
  api.labels.next = 2
  const server = make("next")
  await server.look()
  assert.equal(server.labels.get("next"), 2)
})

test("only versions that are available are offered", async () => {
  api.versions[0].state = "LOADING"
  const server = make()
  await server.look()
  assert.deepEqual(server.available, [1])
})

test("a model without an available version is a failure that is retried", async () => {
  api.versions = [{ number: 1, state: "END", error: "no space" }]
  const server = make()
  await server.look()
  assert.equal(server.failure?.kind, "unreachable")
  assert.ok(server.failure?.message.includes("no space"))
})

test("after a failure to reach the server its versions are kept", async () => {
  const server = make()
  await server.look()
  api.failure = new Failure("unreachable", "", "")
  await server.look()
  assert.equal(server.failure, api.failure)
  assert.deepEqual(server.available, [2, 1])
})

test("a model that is missing has no versions", async () => {
  const server = make()
  await server.look()
  api.failure = new Failure("missing", "", "")
  await server.look()
  assert.deepEqual(server.versions, [])
})

for (const [kind, ms] of /** @type {[import("../../../serving/servable_serving/web/failure.js").Kind | null, number][]} */ ([
  [null, 4000],
  ["unreachable", 1500],
  ["key", 15_000],
  ["failed", 4000],
])) {
  test(`after ${kind ?? "success"} the server is asked again in ${ms} ms`, async () => {
    if (kind) api.failure = new Failure(kind, "", "")
    await make().look()
    assert.deepEqual(await after(ms - 1), [])
    assert.ok((await after(1)).includes("garments"))
  })
}

test("a hidden page asks for nothing", async () => {
  await make().look()
  page.hidden = true
  assert.deepEqual(await after(60_000), [])
})

test("a label that does not exist is asked for less often", async () => {
  await make().look()
  assert.ok(!(await after(4000)).includes("garments/labels/canary"))
  for (let i = 0; i < 6; i++) await after(4000)
  assert.ok((await after(4000)).includes("garments/labels/canary"))
})

test("when versions change, every label is asked for again", async () => {
  await make().look()
  api.versions = [{ number: 3, state: "AVAILABLE", error: "" }]
  assert.ok((await after(4000)).includes("garments/labels/canary"))
})

test("a change is announced", async () => {
  const server = make()
  const changed = mock.fn()
  server.addEventListener("change", changed)
  await server.look()
  assert.equal(changed.mock.callCount(), 1)
})

test("an earlier look that ends late is ignored", async () => {
  const server = make()
  const changed = mock.fn()
  server.addEventListener("change", changed)
  await Promise.all([server.look(), server.look()])
  assert.equal(changed.mock.callCount(), 1)
})

test("a target is a label, a version or the newest one", async () => {
  const server = make()
  await server.look()
  assert.deepEqual(
    ["label:stable", "version:1", "newest"].map((target) => server.resolve(target)),
    [1, 1, 2],
  )
})

test("a target whose label does not exist is missing", async () => {
  const server = make()
  await server.look()
  assert.throws(() => server.resolve("label:canary"), { kind: "missing" })
})

for (const [what, dims, shape] of /** @type {[string, unknown[], unknown][]} */ ([
  ["grey images", ["-1", "28", "20"], { height: 28, width: 20, channels: 1 }],
  ["colour images", ["-1", "64", "64", "3"], { height: 64, width: 64, channels: 3 }],
  ["vectors", ["-1", "784"], null],
  ["images of any size", ["-1", "-1", "-1"], null],
  ["images with four channels", ["-1", "28", "28", "4"], null],
])) {
  test(`the shape of a model of ${what}`, async () => {
    api.dims = dims.map((size) => ({ size }))
    const server = make()
    await server.look()
    assert.deepEqual(server.shape, shape)
  })
}

test("a server that was never reached has no shape", () => {
  assert.equal(make().shape, null)
})
