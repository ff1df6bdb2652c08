// The camera: only the area inside the square is used.

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
      on.failure(cameraFailure(error instanceof DOMException ? error.name : ""))
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
function cameraFailure(name) {
  switch (name) {
    case "NotAllowedError":
      return new Failure("image", "The page is not allowed to use the camera.", "Allow it next to the address.")
    case "NotFoundError":
      return new Failure("image", "No camera was found.", "Choose a file, or draw.")
    case "NotReadableError":
      return new Failure("image", "Another program is using the camera.", "Close that program.")
    case "SecurityError":
      return new Failure(
        "image",
        "Browsers allow the camera only on pages served over https or from this machine.",
        "Open the page by its https address, or choose a file: a phone offers its camera there.",
      )
    default:
      return new Failure("image", "The camera did not start.", "Choose a file, or draw.")
  }
}
