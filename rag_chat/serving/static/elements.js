// Elements made of names, attributes and text. Nothing is ever parsed as HTML, so text stays text.

/**
 * An element with attributes and children (elements or text). "on..." attributes are listeners; false and
 * null attributes are left out.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

const PATHS = {
  up: "M7 21H4V10h3m0 11V10l4-7c1.5 0 2.5 1 2.5 2.5L13 10h5.5a2 2 0 0 1 2 2.3l-1.2 7a2 2 0 0 1-2 1.7H7",
  down: "M17 3h3v11h-3m0-11v11l-4 7c-1.5 0-2.5-1-2.5-2.5L11 14H5.5a2 2 0 0 1-2-2.3l1.2-7a2 2 0 0 1 2-1.7H17",
  send: "M12 20V4m0 0-6 6m6-6 6 6",
  stop: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6 6 18",
  remove: "M4 7h16M10 4h4M6 7l1 13h10l1-13M10 11v5m4-5v5",
  add: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  theme: "M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z",
  none: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M8.5 15.5l7-7",
  chat: "M4 5h16v11h-9l-4 4v-4H4z",
};

/** A picture that says nothing on its own: what it stands on has a name. */
export function icon(name) {
  const made = (tag, attributes, ...children) =>
    filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const attributes = { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" };
  return made("svg", attributes, made("path", { d: PATHS[name] }));
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
