// Failures that the user is told about: one sentence, and what to do.

/** @typedef {"unreachable" | "key" | "missing" | "busy" | "rejected" | "image" | "input" | "failed"} Kind */

export class Failure extends Error {
  /**
   * @param {Kind} kind
   * @param {string} message One sentence.
   * @param {string} advice What to do.
   */
  constructor(kind, message, advice) {
    super(message)
    this.kind = kind
    this.advice = advice
  }
}

export const unreachable = () =>
  new Failure(
    "unreachable",
    "The server does not respond.",
    "Start it, or check the network connection. Retrying; the page will resume automatically.",
  )

/**
 * The failure that an HTTP status other than 200 means.
 * @param {number} status
 * @param {string} message The server's own error message, if any.
 * @param {boolean} withKey Whether a key was sent.
 */
export function refusal(status, message, withKey) {
  switch (status) {
    case 401:
    case 403:
      return withKey
        ? new Failure("key", "The server rejected this API key.", "Enter another one, or ask its operator.")
        : new Failure("key", "The server requires an API key.", "Enter yours; it is kept in this tab only.")
    case 404:
      return new Failure(
        "missing",
        message ? `Model not found: ${message}` : "There is no model server at this address.",
        "Check the model's name at the top, and its versions and labels below.",
      )
    case 413:
      return new Failure("rejected", "The image is too large for the server.", "Try a smaller one.")
    case 429:
      return new Failure("busy", "Too many requests.", "Wait a moment.")
    case 502:
    case 503:
    case 504:
      return new Failure(
        "unreachable",
        "The gateway responds, but the model server behind it does not.",
        "Start it, or wait until it has loaded its models. Retrying; the page will resume automatically.",
      )
    case 400:
      return new Failure("rejected", `The server rejected the request: ${message}`, "Try another image.")
    default:
      return new Failure("failed", `The server failed (${status}). ${message}`, "See the server's log.")
  }
}

/**
 * Retry while the server limits the rate of requests, at growing intervals.
 * @template T
 * @param {() => Promise<T>} ask
 */
export async function retried(ask) {
  for (let wait = 400; ; wait *= 2) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== "busy" || wait > 5000) throw error
      await new Promise((done) => setTimeout(done, wait))
    }
  }
}
