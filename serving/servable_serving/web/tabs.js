// Tabs as in the ARIA Authoring Practices: arrow keys, Home and End move; one tab stop.

/**
 * @param {Element} list
 * @param {(id: string) => void} [changed] Called with the id of the chosen tab.
 */
export function tabs(list, changed) {
  const all = /** @type {HTMLElement[]} */ ([...list.querySelectorAll('[role="tab"]')])

  /** @param {HTMLElement} tab */
  const choose = (tab) => {
    for (const one of all) {
      const chosen = one === tab
      one.setAttribute("aria-selected", String(chosen))
      one.tabIndex = chosen ? 0 : -1
      const panel = document.getElementById(one.getAttribute("aria-controls") ?? "")
      if (panel) panel.hidden = !chosen
    }
    changed?.(tab.id)
  }

  all.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab))
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1 }[event.key]
      const next = to === undefined ? undefined : all.at(to % all.length)
      if (!next) return
      event.preventDefault()
      next.focus()
      choose(next)
    })
  })
}
