import assert from "node:assert/strict"
import { test } from "node:test"

import { Failure } from "../../../serving/servable_serving/web/failure.js"
import {
  callable,
  curl,
  described,
  example,
  parse,
  python,
  tensorsOf,
} from "../../../serving/servable_serving/web/tensors.js"

/**
 * @param {string} dtype
 * @param {number[] | null} shape
 */
const tensor = (dtype, shape) => ({ name: "x", dtype, shape })

test("the signatures that a request can run, the default one first", () => {
  const method_name = "tensorflow/serving/predict"
  const signatures = {
    other: { method_name },
    classify: { method_name: "tensorflow/serving/classify" },
    __saved_model_init_op: { method_name: "" },
    serving_default: { method_name },
    another: { method_name },
  }
  assert.deepEqual(callable(signatures), ["serving_default", "another", "other"])
})

test("tensors have a name, a dtype and a shape", () => {
  const dim = [{ size: "-1" }, { size: "3" }]
  const found = tensorsOf({
    b: { dtype: "DT_FLOAT", tensor_shape: { dim, unknown_rank: false } },
    a: { dtype: "DT_STRING", tensor_shape: { dim: [], unknown_rank: true } },
    c: { dtype: "DT_INT64", tensor_shape: { unknown_rank: false } },
  })
  assert.deepEqual(found, [
    { name: "a", dtype: "string", shape: null },
    { name: "b", dtype: "float", shape: [-1, 3] },
    { name: "c", dtype: "int64", shape: [] },
  ])
  assert.deepEqual(found.map(described), ["string of any shape", "float [any, 3]", "int64 []"])
  assert.deepEqual(tensorsOf(undefined), [])
})

for (const [dtype, shape, expected] of /** @type {[string, number[] | null, unknown][]} */ ([
  ["float", [-1, 3], [[0, 0, 0]]],
  ["string", [-1], ["text"]],
  ["bool", [], false],
  ["int32", [-1, -1, 1], [[[0], [0]]]],
  ["float", null, [0]],
])) {
  test(`an example of ${dtype} [${shape}] is valid`, () => {
    const text = example(tensor(dtype, shape))
    assert.deepEqual(JSON.parse(text), expected)
    assert.deepEqual(parse(text, tensor(dtype, shape)), expected)
  })
}

for (const [text, dtype, shape, expected] of /** @type {[string, string, number[] | null, unknown][]} */ ([
  ["[[1.5, 2], [3, 4]]", "float", [-1, 2], [[1.5, 2], [3, 4]]],
  ["1, 2, 3\n4 5;6\n", "float", [-1, 3], [[1, 2, 3], [4, 5, 6]]],
  ["7", "int64", [], 7],
  ["1\n2", "int64", [-1], [1, 2]],
  ["so good\n\nso bad", "string", [-1, 1], [["so good"], ["so bad"]]],
  ["so good, they say", "string", [-1], ["so good, they say"]],
  ['[{"b64": "AA=="}]', "string", [-1], [{ b64: "AA==" }]],
  ["true, false", "bool", [-1, 2], [[true, false]]],
  ["[[[1]]]", "float", null, [[[1]]]],
  ["[]", "float", [-1, 3], []],
])) {
  test(`${JSON.stringify(text)} is a value of ${dtype} [${shape}]`, () => {
    assert.deepEqual(parse(text, tensor(dtype, shape)), expected)
  })
}

for (const [text, dtype, shape, message] of /** @type {[string, string, number[] | null, RegExp][]} */ ([
  ["", "float", [-1], /empty/],
  ["[1, 2", "float", [-1], /not valid JSON/],
  ["1, two", "float", [-1, 2], /"two", which is not a number/],
  ["a\nb", "float", [-1, -1, 1], /not valid JSON/],
  ["[[1, 2], [3]]", "float", [-1, -1], /rows of different lengths/],
  ["[[1, 2]]", "float", [-1, 3], /has 2 where it must have 3/],
  ["[1, 2, 3]", "float", [-1, 3], /nested 1 deep, and must be 2/],
  ["[[[1]]]", "float", [-1, 1], /nested 3 deep or more, and must be 2/],
  ["[0.5]", "int32", [-1], /0.5, which is not an integer/],
  ["[256]", "uint8", [-1], /256, which is not a valid uint8/],
  ["[1]", "string", [-1], /1, which is not a string/],
  ["[1]", "bool", [-1], /not true or false/],
  ['["1"]', "float", [-1], /"1", which is not a number/],
])) {
  test(`${JSON.stringify(text)} is refused for ${dtype} [${shape}]`, () => {
    assert.throws(
      () => parse(text, tensor(dtype, shape)),
      (error) => error instanceof Failure && error.kind === "input" && message.test(error.message),
    )
  })
}

const SNIPPET = {
  origin: "http://127.0.0.1:8501",
  address: "http://127.0.0.1:8501/v1/models/income/labels/stable",
  model: "income",
  pin: 'label="stable"',
  key: false,
  signature: "serving_default",
  inputs: { name: ["O'Neil"], old: [true], age: [[41]] },
}

test("the request as curl", () => {
  assert.equal(
    curl(SNIPPET),
    "curl 'http://127.0.0.1:8501/v1/models/income/labels/stable:predict' \\\n" +
      `  -d '{"signature_name":"serving_default","inputs":{"name":["O'\\''Neil"],"old":[true],"age":[[41]]}}'`,
  )
  assert.match(curl({ ...SNIPPET, key: true }), /-H "x-api-key: \$SERVABLE_API_KEY"/)
})

test("the request as Python", () => {
  assert.equal(
    python(SNIPPET),
    `from servable_client import Client

with Client("http://127.0.0.1:8501", model="income", label="stable") as client:
    print(client.predict({"name": ["O'Neil"], "old": [True], "age": [[41]]}))`,
  )
  const other = python({ ...SNIPPET, key: true, signature: "other" })
  assert.match(other, /, signature="other"\)\)$/)
  assert.match(other, /^import os\n\n/)
})
