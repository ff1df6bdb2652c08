// The drawing board: strokes by mouse, finger, pen or arrow keys.

import { context, find } from "./dom.js"

/**
 * @typedef {object} Stroke
 * @property {boolean} filled Whether the outline is filled.
 * @property {string} shade
 * @property {number} size
 * @property {boolean} mirrored
 * @property {[number, number][]} points
 */

const STEP = 10 // how far an arrow key goes: one of the model's 28 pixels

/**
 * @param {(drawing: number, settled: boolean) => void} changed Called while something is drawn, and
 *   at its end, with the number of the drawing.
 * @returns {HTMLCanvasElement}
 */
export function board(changed) {
  const canvas = find("board", HTMLCanvasElement)
  const cursor = find("cursor", HTMLElement)
  const form = find("pens", HTMLFormElement)
  const pen = context(canvas)
  /** @type {Stroke[]} */
  let strokes = []
  /** @type {Stroke | null} */
  let stroke = null
  /** @type {[number, number]} */
  let place = [canvas.width / 2, canvas.height / 2]
  let frame = 0
  let drawing = 0

  const draw = () => {
    pen.fillStyle = "#000"
    pen.fillRect(0, 0, canvas.width, canvas.height)
    for (const one of strokes) {
      trace(one, false)
      if (one.mirrored) trace(one, true)
    }
  }

  /**
   * @param {Stroke} one
   * @param {boolean} mirrored
   */
  const trace = ({ filled, shade, size, points }, mirrored) => {
    pen.strokeStyle = pen.fillStyle = shade
    pen.lineWidth = size
    pen.lineCap = pen.lineJoin = "round"
    pen.beginPath()
    points.forEach(([x, y], i) => pen.lineTo(mirrored ? canvas.width - x : x, y + (i ? 0 : 0.01)))
    if (points.length === 1) pen.lineTo(mirrored ? canvas.width - points[0][0] : points[0][0], points[0][1])
    if (filled && points.length > 2) {
      pen.closePath()
      pen.fill()
    }
    pen.stroke()
  }

  const refresh = () => {
    if (frame) return
    frame = requestAnimationFrame(() => {
      frame = 0
      draw()
      if (strokes.length) changed(drawing, false)
    })
  }

  /** @param {[number, number]} at */
  const begin = (at) => {
    const pens = new FormData(form)
    stroke = {
      filled: pens.get("kind") === "shape",
      shade: String(pens.get("shade")),
      size: Number(pens.get("size")),
      mirrored: pens.has("mirror"),
      points: [at],
    }
    strokes.push(stroke)
    refresh()
  }

  const end = () => {
    if (!stroke) return
    stroke = null
    draw()
    if (strokes.length) changed(drawing, true)
  }

  /**
   * @param {PointerEvent} event
   * @returns {[number, number]}
   */
  const at = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect()
    return [
      ((clientX - box.left) / box.width) * canvas.width,
      ((clientY - box.top) / box.height) * canvas.height,
    ]
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return
    event.preventDefault()
    canvas.focus({ preventScroll: true })
    canvas.setPointerCapture(event.pointerId)
    cursor.hidden = true
    begin(at(event))
  })
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || !event.isPrimary || !event.buttons) return
    const events = event.getCoalescedEvents?.() ?? []
    stroke.points.push(...(events.length ? events : [event]).map(at))
    refresh()
  })
  canvas.addEventListener("pointerup", end)
  canvas.addEventListener("pointercancel", end)

  const showCursor = () => {
    cursor.hidden = false
    cursor.classList.toggle("down", stroke !== null)
    cursor.style.left = `${(place[0] / canvas.width) * 100}%`
    cursor.style.top = `${(place[1] / canvas.height) * 100}%`
  }
  /** @type {Record<string, [number, number]>} */
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
  canvas.addEventListener("keydown", (event) => {
    const way = ways[event.key]
    if (way) {
      const step = STEP * (event.shiftKey ? 5 : 1)
      const limit = [canvas.width, canvas.height]
      place = [
        Math.min(Math.max(place[0] + way[0] * step, 0), limit[0]),
        Math.min(Math.max(place[1] + way[1] * step, 0), limit[1]),
      ]
      stroke?.points.push(place)
      if (stroke) refresh()
    } else if (event.key === " " || event.key === "Enter") {
      if (stroke) end()
      else begin(place)
    } else if (event.key === "Escape" && stroke) {
      end()
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      undo()
    } else {
      return
    }
    event.preventDefault()
    showCursor()
  })
  canvas.addEventListener("blur", () => {
    cursor.hidden = true
    end()
  })

  const undo = () => {
    stroke = null
    strokes.pop()
    draw()
    if (strokes.length) changed(drawing, true)
  }
  find("undo", HTMLButtonElement).addEventListener("click", undo)
  find("clear", HTMLButtonElement).addEventListener("click", () => {
    stroke = null
    strokes = []
    drawing++
    draw()
  })
  form.addEventListener("submit", (event) => event.preventDefault())
  draw()
  return canvas
}
