// Calls a server by @grpc/grpc-js, with TensorFlow Serving's messages.
//
//   node grpc_js.js ADDRESS DESCRIPTORS
//
// DESCRIPTORS is a file with a FileDescriptorSet. Calls and answers are those of test_other_clients.py,
// a line of JSON each.

import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"

import * as grpc from "@grpc/grpc-js"
import * as loader from "@grpc/proto-loader"

/** @typedef {{dtype: string, shape: number[], values: any[]}} Tensor */

// The field of a TensorProto with the values of each dtype, as its tensor.proto documents it.
/** @type {Record<string, string>} */
const FIELDS = {
  DT_FLOAT: "float_val",
  DT_DOUBLE: "double_val",
  DT_INT8: "int_val",
  DT_INT16: "int_val",
  DT_INT32: "int_val",
  DT_INT64: "int64_val",
  DT_UINT8: "int_val",
  DT_UINT16: "int_val",
  DT_UINT32: "uint32_val",
  DT_UINT64: "uint64_val",
  DT_BOOL: "bool_val",
  DT_STRING: "string_val",
}

const [address, descriptors] = process.argv.slice(2)
const definition = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors), {
  longs: String,
  enums: String,
  bytes: String,
  defaults: true,
})
const { serving } = /** @type {any} */ (grpc.loadPackageDefinition(definition).tensorflow)
const credentials = grpc.credentials.createInsecure()
/** @type {grpc.Client & Record<string, Function>} */
const prediction = new serving.PredictionService(address, credentials)
/** @type {grpc.Client & Record<string, Function>} */
const models = new serving.ModelService(address, credentials)

/**
 * @param {grpc.Client & Record<string, Function>} client
 * @param {string} method
 * @param {object} request
 * @returns {Promise<any>}
 */
function ask(client, method, request) {
  return new Promise((resolve, reject) => {
    /** @type {grpc.requestCallback<any>} */
    const answered = (error, response) => (error ? reject(error) : resolve(response))
    client[method](request, answered)
  })
}

// Maps are lists of entries where messages are loaded from descriptors.
/**
 * @template A, B
 * @param {{key: string, value: A}[]} entries
 * @param {(value: A) => B} read
 */
function mapOf(entries, read) {
  return Object.fromEntries(entries.map(({ key, value }) => [key, read(value)]))
}

/** @param {{dim: {size: string}[]}} shape */
function sizes(shape) {
  return shape.dim.map((dim) => Number(dim.size))
}

/** @type {Record<string, (call: any) => Promise<any>>} */
const METHODS = {
  async predict({ model, version, signature, inputs }) {
    const entries = Object.entries(/** @type {Record<string, Tensor>} */ (inputs))
    const response = await ask(prediction, "Predict", {
      model_spec: {
        name: model,
        signature_name: signature,
        ...(version === null ? {} : { version: { value: version } }),
      },
      inputs: entries.map(([key, { dtype, shape, values }]) => ({
        key,
        value: {
          dtype,
          tensor_shape: { dim: shape.map((size) => ({ size })) },
          [FIELDS[dtype]]: values,
        },
      })),
    })
    return mapOf(response.outputs, (tensor) => ({
      dtype: tensor.dtype,
      shape: sizes(tensor.tensor_shape),
      values: tensor[FIELDS[tensor.dtype]],
    }))
  },

  async states({ model }) {
    const response = await ask(models, "GetModelStatus", { model_spec: { name: model } })
    return Object.fromEntries(
      response.model_version_status.map((/** @type {{version: string, state: string}} */ one) => [
        one.version,
        one.state,
      ]),
    )
  },

  async signatures({ model }) {
    const response = await ask(prediction, "GetModelMetadata", {
      model_spec: { name: model },
      metadata_field: ["signature_def"],
    })
    const type = /** @type {loader.MessageTypeDefinition<object, any>} */ (
      definition["tensorflow.serving.SignatureDefMap"]
    )
    const { signature_def: packed } = mapOf(response.metadata, (any) => any)
    const found = type.deserialize(Buffer.from(packed.value, "base64"))
    return mapOf(found.signature_def, (signature) =>
      mapOf(signature.inputs, (input) => ({
        dtype: input.dtype,
        shape: sizes(input.tensor_shape),
      })),
    )
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { method, ...call } = JSON.parse(line)
  /** @type {object} */
  let answer
  try {
    answer = { answer: await METHODS[method](call) }
  } catch (error) {
    const { code } = /** @type {grpc.ServiceError} */ (error)
    if (!(code in grpc.status)) throw error
    answer = { code: grpc.status[code] }
  }
  console.log(JSON.stringify(answer))
}
prediction.close()
models.close()
