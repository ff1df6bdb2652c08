// What can go wrong, each as one sentence and what to do about it.

/** @typedef {"away" | "key" | "unknown" | "busy" | "refused" | "picture" | "failed"} Kind */

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

export const away = () =>
  new Failure(
    "away",
    "The server does not answer.",
    "Start it, or look whether this machine is still connected. The page goes on asking, and goes " +
      "on where it was when an answer comes.",
  )

/**
 * What an HTTP status other than 200 means here.
 * @param {number} status
 * @param {string} said What the server says about it, if anything.
 * @param {boolean} withKey Whether a key was sent.
 */
export function refusal(status, said, withKey) {
  switch (status) {
    case 401:
    case 403:
      return withKey
        ? new Failure("key", "The server refuses this key.", "Enter another, or ask who runs it.")
        : new Failure("key", "The server wants an API key.", "Enter yours; it is kept in this tab.")
    case 404:
      return new Failure(
        "unknown",
        said ? `The server knows no such model: ${said}` : "There is no model server here.",
        "Check the model's name at the top, and its versions and labels below.",
      )
    case 413:
      return new Failure("refused", "The picture is too large for the server.", "Try a smaller one.")
    case 429:
      return new Failure("busy", "The server asks for fewer questions.", "Wait a moment.")
    case 502:
    case 503:
    case 504:
      return new Failure(
        "away",
        "The gateway answers, the model server behind it does not.",
        "Start it, or wait until it has loaded its models. The page goes on asking.",
      )
    case 400:
      return new Failure("refused", `The server refuses this: ${said}`, "Try another picture.")
    default:
      return new Failure("failed", `The server failed (${status}). ${said}`, "Its log says why.")
  }
}

/**
 * Do it again while the answer is to come back later: a gateway limits how often one may ask.
 * @template T
 * @param {() => Promise<T>} ask
 */
export async function patiently(ask) {
  for (let wait = 400; ; wait *= 2) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== "busy" || wait > 5000) throw error
      await new Promise((done) => setTimeout(done, wait))
    }
  }
}
