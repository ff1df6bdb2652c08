// Finding and making elements, with their types.

/**
 * The element of an id.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(id, kind) {
  const element = document.getElementById(id)
  if (!(element instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`)
  return element
}

/**
 * A new element. Text goes in as text: nothing that a server or a file says is read as markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} properties
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, String(value))
    else Object.assign(element, { [name]: value })
  }
  element.append(...children)
  return element
}

/**
 * The 2D context of a canvas whose pixels will be read.
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function context(canvas) {
  const found = canvas.getContext("2d", { willReadFrequently: true })
  if (!found) throw new Error("the browser has no canvas")
  return found
}

/**
 * A share of 1 as a percentage.
 * @param {number} share
 */
export function percent(share) {
  const value = share * 100
  if (value > 99.9 && value < 100) return "> 99.9 %"
  if (value > 0 && value < 0.1) return "< 0.1 %"
  return `${value.toFixed(1)} %`
}
