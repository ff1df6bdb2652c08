// The page: brings pictures, asks the server, shows what it says.

import { Panel } from "./answers.js"
import { Api } from "./api.js"
import { batch } from "./batch.js"
import { board } from "./board.js"
import { camera } from "./camera.js"
import { find, make, percent } from "./dom.js"
import { Failure, patiently } from "./failure.js"
import { base64, fileName, read, snapshot, thumbnail } from "./picture.js"
import { samples } from "./samples.js"
import { nested, paint, see } from "./see.js"
import { Server } from "./server.js"
import { curl, python } from "./snippets.js"
import { tabs } from "./tabs.js"

/** @import { Answer } from "./answers.js" */
/** @import { Picture } from "./picture.js" */
/** @import { Sight } from "./see.js" */
/** @import { Target } from "./server.js" */

const REMEMBERED = 16
const RETRY = 1500
const FIRST = "ankle-boot-0"

const query = new URLSearchParams(location.search)
const api = new Api()
const server = new Server(api, query.get("model") || "fashion_mnist", query.getAll("label"))

const model = find("model", HTMLInputElement)
const target = find("target", HTMLSelectElement)
const rival = find("rival", HTMLSelectElement)
const invert = find("invert", HTMLInputElement)
const original = find("original", HTMLCanvasElement)
const seen = find("seen", HTMLCanvasElement)
const answers = find("answers", HTMLElement)
const panel = new Panel(find("answer", HTMLElement))
const rivalPanel = new Panel(find("rival-answer", HTMLElement))

/** @type {Picture | null} */
let picture = null
/** What somebody chose for this picture; as the server does it while undefined.
 * @type {boolean | undefined} */
let chosenInversion
/** @type {Failure | null} */
let failure = null
let keyWanted = false

// Bringing a picture

/**
 * @param {Picture} next
 * @param {object} [how]
 * @param {boolean} [how.settled] Whether it stays as it is; else more are on their way.
 * @param {boolean} [how.inversion] What was chosen for it; nothing unless given.
 */
async function bring(next, { settled = true, inversion } = {}) {
  const same = next.series !== undefined && next.series === picture?.series
  if (!same) chosenInversion = inversion
  picture = next
  find("picture-name", HTMLElement).textContent = next.name
  find("picture-about", HTMLElement).textContent = next.about
  original.setAttribute("aria-label", `Your picture, ${next.name}`)
  void thumbnail(next.image, original)
  await update(settled)
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
async function bringBlob(blob, name) {
  try {
    await bring(await read(blob, name))
  } catch (error) {
    fail(error)
  }
}

/** @param {File[]} files */
async function bringFiles(files) {
  if (files.length > 1) await askAll(files)
  else if (files.length) await bringBlob(files[0], files[0].name)
}

/** @param {string} file */
async function bringSample(file) {
  try {
    const reply = await fetch(`samples/${file}.png`)
    if (!reply.ok) throw new TypeError()
    await bringBlob(await reply.blob(), `${file}.png`)
  } catch {
    fail(new Failure("away", "The test picture did not come.", "Look whether the server runs."))
  }
}

// Asking

/**
 * @typedef {object} Question
 * @property {Picture} picture
 * @property {Sight} sight
 * @property {boolean} own Whether the page's own pixels are sent, and not the file.
 * @property {boolean} settled
 */

/** @type {Question | null} */
let waiting = null
let asking = false
let count = 0 // of the answers to pictures that stay as they are

/** @param {boolean} settled */
async function update(settled) {
  const shape = server.shape
  if (!picture || !shape) {
    if (server.newest && !shape) {
      const advice = "The page asks models with an input image of uint8 [N, height, width]."
      fail(new Failure("unknown", `${server.model} does not classify pictures.`, advice))
    }
    return
  }
  const sight = see(picture.image, shape, chosenInversion)
  showSight(sight)
  const own = sight.inverted !== sight.light || !server.newest?.signatures.serving_bytes
  waiting = { picture, sight, own, settled: settled || Boolean(waiting?.settled) }
  if (asking) return
  // One question at a time, and always the latest: what is drawn meanwhile overtakes itself.
  asking = true
  try {
    while (waiting) {
      const question = waiting
      waiting = null
      await answer(question)
    }
  } finally {
    asking = false
  }
}

/** @param {Question} question */
async function answer(question) {
  const others = rival.value ? [rival.value] : []
  try {
    const found = await Promise.all([target.value, ...others].map((who) => ask(question, who)))
    failure = null
    showTrouble()
    showAnswers(found, question)
  } catch (error) {
    fail(error)
  }
}

/**
 * @param {Pick<Question, "picture" | "sight" | "own">} question
 * @param {Target} who
 * @returns {Promise<Answer>}
 */
async function ask({ picture, sight, own }, who) {
  const signature = own ? "serving_default" : "serving_bytes"
  const instance = own ? nested(sight) : { b64: await base64(picture.blob) }
  const version = server.resolve(who)
  let began = 0
  try {
    const [found] = await patiently(() => {
      began = performance.now()
      return api.predict(server.model, version, signature, [instance])
    })
    const elapsed = performance.now() - began
    const names = await server.names(version)
    const byNumber = found.probabilities.map((_, number) => names[number] ?? `class ${number}`)
    byNumber[found.classId] = found.label
    return { ...found, version, elapsed, names: byNumber }
  } catch (error) {
    if (!(error instanceof Failure) || error.kind !== "unknown") throw error
    // A label moved, or the version was taken away.
    await server.look()
    if (server.failure || server.resolve(who) === version) throw error
    return ask({ picture, sight, own }, who)
  }
}

// Showing

/** @param {Sight} sight */
function showSight(sight) {
  const { shape, light, inverted } = sight
  paint(sight, seen)
  paint(sight, find("glance-seen", HTMLCanvasElement))
  find("seen-size", HTMLElement).textContent = `${shape.width} × ${shape.height}`
  seen.setAttribute("aria-label", `What the model sees, ${shape.width} by ${shape.height} pixels`)
  find("inversion", HTMLElement).hidden = shape.channels === 3
  invert.disabled = false
  invert.checked = inverted
  const overridden = inverted !== light
  find("invert-why", HTMLElement).textContent = overridden
    ? "You chose so."
    : light
      ? "The border is light, and the model wants light on dark."
      : "The border is dark, as the model wants it."
  find("invert-auto", HTMLButtonElement).hidden = !overridden
}

/**
 * @param {Answer[]} found One, or two to compare.
 * @param {Question} question
 */
function showAnswers([first, second], question) {
  panel.show(first, name(target.value, first.version))
  rivalPanel.root.hidden = !second
  answers.classList.toggle("two", Boolean(second))
  if (second) rivalPanel.show(second, name(rival.value, second.version))
  const agreement = find("agreement", HTMLElement)
  agreement.hidden = !second
  if (second) {
    const agree = first.classId === second.classId
    agreement.className = `agreement ${agree ? "agree" : "differ"}`
    agreement.textContent = agree
      ? `Both say ${first.label}.`
      : `They differ: ${first.label} and ${second.label}.`
  }
  const share = percent(first.probabilities[first.classId])
  find("glance", HTMLElement).hidden = false
  find("glance-label", HTMLElement).textContent = first.label
  find("glance-share", HTMLElement).textContent = share
  if (!question.settled) return
  answers.dataset.picture = question.picture.name
  answers.dataset.count = String(++count)
  const also = second ? `; ${name(rival.value, second.version)}: ${second.label}` : ""
  find("said", HTMLElement).textContent = `${first.label}, ${share}, version ${first.version}${also}`
  remember(question, first)
  showCode(question)
}

/**
 * @param {Target} who
 * @param {number} version
 */
function name(who, version) {
  const [kind, label] = who.split(/:(.*)/s)
  return kind === "version" ? `Version ${version}` : `${label ?? "newest"} · version ${version}`
}

/** @param {unknown} error */
function fail(error) {
  if (!(error instanceof Failure)) throw error
  failure = error
  showTrouble()
  if (error.kind === "away" || error.kind === "key") void server.look()
}

function showTrouble() {
  const trouble = server.failure ?? failure
  const section = find("trouble", HTMLElement)
  const said = find("trouble-said", HTMLElement)
  const keyForm = find("key-form", HTMLFormElement)
  section.hidden = !trouble
  section.dataset.kind = trouble?.kind ?? ""
  // Written only where it changes: an alert is read out each time.
  if (trouble && said.textContent !== trouble.message) {
    said.textContent = trouble.message
    find("trouble-advice", HTMLElement).textContent = trouble.advice
  }
  if (!trouble) said.textContent = ""
  keyForm.hidden = trouble?.kind !== "key" && !keyWanted
  if (!keyWanted || trouble) return
  section.hidden = false
  said.textContent = api.key ? "A key is sent with each question." : "No key is sent."
  find("trouble-advice", HTMLElement).textContent = "Enter one, or nothing to take it away."
}

/** @type {{picture: Picture, inversion: boolean | undefined}[]} */
const remembered = []

/**
 * @param {Question} question
 * @param {Answer} answer
 */
function remember({ picture, sight }, answer) {
  const last = find("last", HTMLOListElement)
  if (!remembered.length) last.replaceChildren()
  const inversion = chosenInversion
  const canvas = make("canvas", { "aria-hidden": "true" })
  paint(sight, canvas)
  const share = percent(answer.probabilities[answer.classId])
  // Not the first alone: the answer to an earlier picture may come late.
  const before = remembered.findIndex(
    (entry) => picture.series !== undefined && entry.picture.series === picture.series,
  )
  if (before >= 0) {
    remembered.splice(before, 1)
    last.children[before]?.remove()
  }
  const button = make(
    "button",
    { type: "button", title: `${picture.name}, version ${answer.version}` },
    canvas,
    make("b", {}, answer.label),
    make("span", {}, share),
  )
  button.addEventListener("click", () => void bring(picture, { inversion }))
  remembered.unshift({ picture, inversion })
  last.prepend(make("li", {}, button))
  if (remembered.length > REMEMBERED) {
    remembered.pop()
    last.lastElementChild?.remove()
  }
}

let saved = ""

/** @param {Question} question */
function showCode({ picture, sight, own }) {
  const [kind, label] = target.value.split(/:(.*)/s)
  const version = server.resolve(target.value)
  const pinned = kind === "label" ? `/labels/${encodeURIComponent(label)}` : `/versions/${version}`
  const question = {
    origin: new URL("./", document.baseURI).href.replace(/\/$/, ""),
    address: api.address(server.model, pinned),
    model: server.model,
    pin: kind === "label" ? `label=${JSON.stringify(label)}` : `version=${version}`,
    key: Boolean(api.key),
    picture,
    sight,
    own,
  }
  find("curl", HTMLElement).textContent = curl(question)
  find("python", HTMLElement).textContent = python(question)
  find("copy", HTMLButtonElement).disabled = false
  URL.revokeObjectURL(saved)
  saved = URL.createObjectURL(picture.blob)
  const save = find("save", HTMLAnchorElement)
  save.href = saved
  save.download = fileName(picture)
  save.textContent = `Save ${save.download}`
  save.hidden = own
}

// The server

function showServer() {
  const { versions, labels, seen: when } = server
  const up = !server.failure
  const state = find("state", HTMLElement)
  const numbers = server.available.join(", ")
  const said = up ? `Serving version${server.available.length > 1 ? "s" : ""} ${numbers}` : "Not serving"
  if (state.textContent !== said) state.textContent = said
  state.classList.toggle("up", up)
  state.classList.toggle("down", !up)
  find("server-model", HTMLElement).textContent = server.model
  find("server-seen", HTMLElement).textContent =
    when.getTime() === 0 ? "No answer yet." : `Last answer at ${when.toLocaleTimeString()}.`
  const lines = versions.map(({ number, state, error }) => {
    const named = [...labels].filter(([, version]) => version === number).map(([label]) => label)
    const shown = up ? state : "UNKNOWN"
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, String(number)),
      make(
        "td",
        {},
        make("span", { className: `chip ${shown.toLowerCase()}` }, shown),
        make("span", { className: "why", title: error }, error),
      ),
      make("td", {}, ...named.map((label) => make("span", { className: "chip" }, label))),
    )
  })
  find("versions", HTMLElement).replaceChildren(...lines)
  if (up) showTargets()
}

function showTargets() {
  const options = [
    ...[...server.labels].map(([label, version]) => [`label:${label}`, `${label} · version ${version}`]),
    ["newest", `newest · version ${server.newest?.version}`],
    ...server.available.map((version) => [`version:${version}`, `version ${version}`]),
  ]
  const first = server.labels.has("stable") ? "label:stable" : "newest"
  fill(target, options, first)
  fill(rival, [["", "nobody"], ...options], "")
}

/**
 * @param {HTMLSelectElement} select
 * @param {string[][]} options
 * @param {string} otherwise What is chosen where the choice is gone.
 */
function fill(select, options, otherwise) {
  const known = JSON.stringify(options)
  if (select.dataset.options === known) return
  select.dataset.options = known
  const before = select.value
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)))
  select.value = options.some(([value]) => value === before) && before ? before : otherwise
}

let before = "" // what was last known of the versions behind the labels
let retry = 0

server.addEventListener("change", () => {
  showServer()
  if (server.failure) {
    showTrouble()
    before = ""
    return
  }
  const now = JSON.stringify([server.model, [...server.labels], server.newest?.version])
  const news = now !== before
  before = now
  showTrouble()
  const again = failure !== null && failure.kind !== "picture" && failure.kind !== "refused"
  clearTimeout(retry)
  if (news) askAgain()
  // The server is well, and a question failed all the same: not at once, or they would race.
  else if (again) retry = setTimeout(askAgain, RETRY)
})

function askAgain() {
  if (picture) void update(true)
  else if (server.shape) void bringSample(FIRST)
}

// What people do

tabs(find("tab-samples", HTMLElement).parentElement ?? document.body, (id) => {
  if (id !== "tab-camera") eye.stop()
})
tabs(find("tab-curl", HTMLElement).parentElement ?? document.body)

const eye = camera({
  frame: async (canvas, settled) => {
    const next = await snapshot(canvas, "camera", "image/jpeg")
    await bring(settled ? next : { ...next, series: "live" }, { settled })
  },
  failure: fail,
})

const canvas = board(async (drawing, settled) => {
  const next = await snapshot(canvas, "drawing", "image/png")
  await bring({ ...next, series: `drawing ${drawing}` }, { settled })
})

const askAll = batch({
  read: (file) => read(file, file.name),
  see: (one) => {
    const shape = server.shape
    if (!shape) throw server.failure ?? new Failure("unknown", "There is no model to ask.", "")
    return see(one.image, shape)
  },
  ask: (one, sight) => {
    const own = !server.newest?.signatures.serving_bytes
    return ask({ picture: one, sight, own }, target.value)
  },
  show: (one) => void bring(one),
})

find("samples", HTMLElement).replaceChildren(
  ...samples.map(([label, file]) => {
    const image = make("img", { src: `samples/${file}.png`, alt: label, width: 56, height: 56 })
    const button = make("button", { type: "button", title: label }, image)
    button.dataset.sample = file
    button.addEventListener("click", () => void bringSample(file))
    return button
  }),
)

const file = find("file", HTMLInputElement)
file.addEventListener("change", () => {
  const files = [...(file.files ?? [])]
  file.value = "" // so that the same file can be chosen again
  void bringFiles(files)
})

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])]
  if (files.length) {
    event.preventDefault()
    void bringFiles(files)
  } else if (!(event.target instanceof HTMLInputElement)) {
    fail(nothingToPaste())
  }
})
find("paste", HTMLButtonElement).addEventListener("click", async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((one) => one.startsWith("image/"))
      if (type) return await bringBlob(await item.getType(type), "pasted picture")
    }
    fail(nothingToPaste())
  } catch {
    const advice = "Press Ctrl and V, or Command and V, instead."
    fail(new Failure("picture", "The browser keeps its clipboard to itself.", advice))
  }
})

const nothingToPaste = () =>
  new Failure("picture", "There is no picture in the clipboard.", "Copy one, not its address.")

let over = 0
document.addEventListener("dragenter", (event) => {
  event.preventDefault()
  over++
  document.body.classList.add("dragging")
})
document.addEventListener("dragover", (event) => event.preventDefault())
document.addEventListener("dragleave", () => {
  over = Math.max(over - 1, 0)
  if (!over) document.body.classList.remove("dragging")
})
document.addEventListener("drop", (event) => {
  event.preventDefault()
  over = 0
  document.body.classList.remove("dragging")
  const files = [...(event.dataTransfer?.files ?? [])]
  if (files.length) void bringFiles(files)
  else fail(new Failure("picture", "That was no file.", "Save the picture, then drop its file."))
})

invert.addEventListener("change", () => {
  chosenInversion = invert.checked
  void update(true)
})
find("invert-auto", HTMLButtonElement).addEventListener("click", () => {
  chosenInversion = undefined
  invert.focus()
  void update(true)
})
for (const select of [target, rival]) select.addEventListener("change", () => void update(true))

model.value = server.model
find("who", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault()
  turnTo(model.value.trim())
})
model.addEventListener("change", () => turnTo(model.value.trim()))

/** @param {string} next */
function turnTo(next) {
  if (!next || next === server.model) return
  const url = new URL(location.href)
  url.searchParams.set("model", next)
  history.replaceState(null, "", url)
  void server.turnTo(next)
}

const key = find("key", HTMLInputElement)
find("key-form", HTMLFormElement).addEventListener("submit", async (event) => {
  event.preventDefault()
  api.key = key.value.trim()
  key.value = ""
  keyWanted = false
  await server.look()
  showTrouble()
  if (server.failure) key.focus()
  else target.focus()
})
find("key-change", HTMLButtonElement).addEventListener("click", () => {
  keyWanted = true
  showTrouble()
  key.focus()
})

find("copy", HTMLButtonElement).addEventListener("click", async () => {
  const shown = find("panel-curl", HTMLElement).hidden ? "python" : "curl"
  const code = find(shown, HTMLElement)
  const copied = find("copied", HTMLElement)
  try {
    await navigator.clipboard.writeText(code.textContent ?? "")
    copied.textContent = "Copied."
  } catch {
    getSelection()?.selectAllChildren(code)
    copied.textContent = "Selected: press Ctrl and C."
  }
  setTimeout(() => (copied.textContent = ""), 3000)
})

panel.show(null, "")
void server.look()
