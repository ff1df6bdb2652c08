// The camera: what is inside the square is what is taken.

import { context, find, make } from "./dom.js"
import { Failure } from "./failure.js"

const SIDE = 448

/**
 * @param {object} on
 * @param {(canvas: HTMLCanvasElement, settled: boolean) => Promise<void>} on.frame
 * @param {(failure: Failure) => void} on.failure
 */
export function camera(on) {
  const video = find("video", HTMLVideoElement)
  const start = find("camera-start", HTMLButtonElement)
  const take = find("camera-take", HTMLButtonElement)
  const live = find("camera-live", HTMLInputElement)
  const canvas = make("canvas", { width: SIDE, height: SIDE })
  /** @type {MediaStream | null} */
  let stream = null

  const show = () => {
    start.textContent = stream ? "Stop the camera" : "Start the camera"
    take.disabled = live.disabled = !stream
  }

  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop())
    stream = null
    video.srcObject = null
    show()
  }

  const grab = () => {
    const side = Math.min(video.videoWidth, video.videoHeight)
    const [left, top] = [(video.videoWidth - side) / 2, (video.videoHeight - side) / 2]
    const pen = context(canvas)
    pen.imageSmoothingQuality = "high"
    pen.drawImage(video, left, top, side, side, 0, 0, SIDE, SIDE)
    return canvas
  }

  let watching = false
  const watch = async () => {
    if (watching) return
    watching = true
    while (stream && live.checked) {
      if (video.videoWidth) await on.frame(grab(), false)
      await new Promise((done) => setTimeout(done, 100))
    }
    watching = false
  }

  start.addEventListener("click", async () => {
    if (stream) return stop()
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "SecurityError")
      stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", height: { ideal: 480 } },
      })
      stream.getVideoTracks()[0].addEventListener("ended", stop)
      video.srcObject = stream
      await video.play()
      show()
      void watch()
    } catch (error) {
      stop()
      on.failure(refused(error instanceof DOMException ? error.name : ""))
    }
  })
  take.addEventListener("click", () => {
    live.checked = false
    void on.frame(grab(), true)
  })
  live.addEventListener("change", () => void watch())
  show()
  return { stop }
}

/** @param {string} name */
function refused(name) {
  switch (name) {
    case "NotAllowedError":
      return new Failure("picture", "The page may not use the camera.", "Allow it beside the address.")
    case "NotFoundError":
      return new Failure("picture", "There is no camera.", "Choose a file, or draw.")
    case "NotReadableError":
      return new Failure("picture", "Another program uses the camera.", "Close that one.")
    case "SecurityError":
      return new Failure(
        "picture",
        "Browsers give the camera to pages over https or from this very machine alone.",
        "Open the page by its https address, or choose a file: a phone offers its camera there.",
      )
    default:
      return new Failure("picture", "The camera did not start.", "Choose a file, or draw.")
  }
}
