// Where images come from: samples, files, the clipboard, drag and drop, the camera, the board.

import { batch } from "./batch.js"
import { board } from "./board.js"
import { camera } from "./camera.js"
import { find, make } from "./dom.js"
import { Failure } from "./failure.js"
import { read, snapshot } from "./image.js"
import { samples } from "./samples.js"
import { tabs } from "./tabs.js"

/** @import { Controller } from "./controller.js" */

/** @param {Controller} controller */
export function connectSources(controller) {
  const showAll = batch({
    read: (file) => read(file, file.name),
    see: (image) => controller.see(image),
    predict: (image, sight) => controller.predict(image, sight),
    show: (image) => void controller.show(image),
  })

  /** @param {File[]} files */
  const showFiles = async (files) => {
    if (files.length > 1) await showAll(files)
    else if (files.length) await controller.showBlob(files[0], files[0].name)
  }

  connectSamples(controller)
  connectFiles(showFiles)
  connectClipboard(controller, showFiles)
  connectDrop(controller, showFiles)
  const canvas = board(async (drawing, settled) => {
    const image = await snapshot(canvas, "drawing", "image/png")
    await controller.show({ ...image, series: `drawing ${drawing}` }, { settled })
  })
  const eye = camera({
    frame: async (canvas, settled) => {
      const image = await snapshot(canvas, "camera", "image/jpeg")
      await controller.show(settled ? image : { ...image, series: "live" }, { settled })
    },
    failure: (failure) => controller.fail(failure),
  })
  tabs(find("source-tabs", HTMLElement), (id) => {
    if (id !== "tab-camera") eye.stop()
  })
}

/** @param {Controller} controller */
function connectSamples(controller) {
  const buttons = samples.map(([label, file]) => {
    const image = make("img", { src: `samples/${file}.png`, alt: label, width: 56, height: 56 })
    const button = make("button", { type: "button", title: label }, image)
    button.addEventListener("click", () => void controller.showSample(file))
    return button
  })
  find("samples", HTMLElement).replaceChildren(...buttons)
}

/** @param {(files: File[]) => Promise<void>} show */
function connectFiles(show) {
  const input = find("file", HTMLInputElement)
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])]
    input.value = "" // so that the same file can be chosen again
    void show(files)
  })
}

/**
 * @param {Controller} controller
 * @param {(files: File[]) => Promise<void>} show
 */
function connectClipboard(controller, show) {
  const nothing = () =>
    controller.fail(
      new Failure(
        "image",
        "There is no image in the clipboard.",
        "Copy an image instead of its address.",
      ),
    )
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])]
    if (files.length) {
      event.preventDefault()
      void show(files)
    } else if (!(event.target instanceof HTMLInputElement)) {
      nothing()
    }
  })
  find("paste", HTMLButtonElement).addEventListener("click", async () => {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((one) => one.startsWith("image/"))
        if (type) return await controller.showBlob(await item.getType(type), "pasted image")
      }
      nothing()
    } catch {
      const advice = "Press Ctrl+V, or Command+V, instead."
      controller.fail(
        new Failure("image", "The browser does not allow access to the clipboard.", advice),
      )
    }
  })
}

/**
 * @param {Controller} controller
 * @param {(files: File[]) => Promise<void>} show
 */
function connectDrop(controller, show) {
  let depth = 0 // of the elements that the drag has entered
  document.addEventListener("dragenter", (event) => {
    event.preventDefault()
    depth++
    document.body.classList.add("dragging")
  })
  document.addEventListener("dragover", (event) => event.preventDefault())
  document.addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0)
    if (!depth) document.body.classList.remove("dragging")
  })
  document.addEventListener("drop", (event) => {
    event.preventDefault()
    depth = 0
    document.body.classList.remove("dragging")
    const files = [...(event.dataTransfer?.files ?? [])]
    if (files.length) void show(files)
    else {
      const advice = "Save the image, then drop its file."
      controller.fail(new Failure("image", "What was dropped is not a file.", advice))
    }
  })
}
