// The switches, menus, forms and buttons that are not about bringing an image in.

import { find } from "./dom.js"
import { TensorForm } from "./form.js"
import { tabs } from "./tabs.js"

/** @import { Controller } from "./controller.js" */

/** @param {Controller} controller */
export function connectControls(controller) {
  connectInversion(controller)
  for (const id of ["target", "rival"]) {
    const select = find(id, HTMLSelectElement)
    select.addEventListener("change", () => void controller.update(true))
  }
  connectModel(controller)
  connectKey(controller)
  connectCode()
}

/**
 * The form for tensors, of models that are not image classifiers.
 * @param {Controller} controller
 */
export function connectForm(controller) {
  controller.form = new TensorForm((read) => void controller.ask(read))
}

/** @param {Controller} controller */
function connectInversion(controller) {
  const invert = find("invert", HTMLInputElement)
  invert.addEventListener("change", () => controller.choose(invert.checked))
  find("invert-auto", HTMLButtonElement).addEventListener("click", () => {
    invert.focus()
    controller.choose(undefined)
  })
}

/** @param {Controller} controller */
function connectModel(controller) {
  const model = find("model", HTMLInputElement)
  model.value = controller.server.model
  model.addEventListener("change", () => controller.turnTo(model.value.trim()))
  find("who", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault()
    controller.turnTo(model.value.trim())
  })
}

/** @param {Controller} controller */
function connectKey(controller) {
  const key = find("key", HTMLInputElement)
  find("key-form", HTMLFormElement).addEventListener("submit", async (event) => {
    event.preventDefault()
    const entered = key.value.trim()
    key.value = ""
    if (await controller.useKey(entered)) find("target", HTMLSelectElement).focus()
    else key.focus()
  })
  find("key-change", HTMLButtonElement).addEventListener("click", () => {
    controller.wantKey()
    key.focus()
  })
}

function connectCode() {
  tabs(find("code-tabs", HTMLElement))
  find("copy", HTMLButtonElement).addEventListener("click", async () => {
    const shown = find("panel-curl", HTMLElement).hidden ? "python" : "curl"
    const code = find(shown, HTMLElement)
    const copied = find("copied", HTMLElement)
    try {
      await navigator.clipboard.writeText(code.textContent ?? "")
      copied.textContent = "Copied."
    } catch {
      getSelection()?.selectAllChildren(code)
      copied.textContent = "Selected: press Ctrl+C."
    }
    setTimeout(() => (copied.textContent = ""), 3000)
  })
}
