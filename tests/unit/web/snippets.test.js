import assert from "node:assert/strict"
import { test } from "node:test"

import { fileName } from "../../../serving/servable_serving/web/image.js"
import { curl, python } from "../../../serving/servable_serving/web/snippets.js"
import { image, sight } from "./values.js"

/** @import { Snippet } from "../../../serving/servable_serving/web/snippets.js" */

/**
 * @param {Partial<Snippet>} [values]
 * @returns {Snippet}
 */
function snippet(values) {
  return {
    origin: "http://127.0.0.1:8501",
    address: "http://127.0.0.1:8501/v1/models/garments/labels/stable",
    model: "garments",
    pin: 'label="stable"',
    key: false,
    image: image("boot.png"),
    sight: sight([1, 2, 3, 4], { height: 2, width: 2, channels: 1 }),
    own: false,
    ...values,
  }
}

test("curl sends a file in base64 to serving_bytes", () => {
  assert.equal(
    curl(snippet()),
    `printf '{"signature_name": "serving_bytes", "instances": [{"b64": "%s"}]}' \\\n` +
      `  "$(base64 < boot.png | tr -d '\\n')" |\n` +
      `  curl -d @- http://127.0.0.1:8501/v1/models/garments/labels/stable:predict`,
  )
})

test("curl sends the page's own pixels to serving_default", () => {
  assert.equal(
    curl(snippet({ own: true })),
    `curl http://127.0.0.1:8501/v1/models/garments/labels/stable:predict \\\n` +
      `  -d '{"signature_name": "serving_default", "instances": [[[1,2],[3,4]]]}'`,
  )
})

test("curl takes an API key from the environment", () => {
  for (const own of [false, true]) {
    assert.match(curl(snippet({ key: true, own })), /curl -H "x-api-key: \$SERVABLE_API_KEY" /)
  }
})

test("an address with characters of the shell is quoted", () => {
  const address = "http://127.0.0.1/v1/models/a'b&c"
  assert.ok(curl(snippet({ address, own: true })).includes(`'http://127.0.0.1/v1/models/a'\\''b&c:predict'`))
})

test("Python classifies a file", () => {
  assert.equal(
    python(snippet()),
    [
      "from servable_client import Client",
      "",
      `with Client("http://127.0.0.1:8501", model="garments", label="stable") as client:`,
      `    answer = client.classify("boot.png")`,
      "    print(answer.label, answer.probability)",
    ].join("\n"),
  )
})

test("Python takes an API key from the environment", () => {
  const text = python(snippet({ key: true }))
  assert.match(text, /^import os\n\nfrom servable_client import Client\n/)
  assert.ok(text.includes(`, label="stable", api_key=os.environ["SERVABLE_API_KEY"])`))
})

test("Python sends the page's own pixels as an array of the model's shape", () => {
  const grey = python(snippet({ own: true }))
  assert.match(grey, /^import base64\n\nimport numpy as np\nfrom servable_client import Client\n/)
  assert.ok(grey.includes(`np.frombuffer(base64.b64decode("AQIDBA=="), np.uint8).reshape(2, 2)`))
  const pixel = sight([1, 2, 3], { height: 1, width: 1, channels: 3 })
  const colour = python(snippet({ own: true, sight: pixel }))
  assert.ok(colour.includes(`np.frombuffer(base64.b64decode("AQID"), np.uint8).reshape(1, 1, 3)`))
})

for (const [name, saved] of [
  ["boot.png", "boot.png"],
  ["boot.jpeg", "boot.png"],
  ["my bag's.png", "my-bag-s.png"],
  ["a.b.png", "a-b.png"],
  [".png", "image.png"],
  ["camera", "camera.png"],
]) {
  test(`${name} is saved as ${saved}, with the ending of what is sent`, () => {
    assert.equal(fileName(image(name)), saved)
  })
}

test("a format that has no ending of its own is saved as PNG", () => {
  assert.equal(fileName({ ...image("a.bmp"), blob: new Blob([], { type: "image/bmp" }) }), "a.png")
})
