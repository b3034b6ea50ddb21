// Elements without a framework. Text is always text: nothing here parses HTML that came from outside.

/** An element: h("button", { class: "button", onclick: f, style: { width: "3px" } }, "text", child). */
export function h(tag, props = {}, ...children) {
  const element = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Says something to screen readers. */
export function announce(text) {
  byId("live").textContent = text;
}

/** The value of a CSS custom property in the current theme. */
export const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Offers a file to save. */
export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
