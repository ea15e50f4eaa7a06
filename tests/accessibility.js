// What is wrong with a page for keyboard and screen-reader users, as a list of sentences. It checks a part of
// WCAG 2.2: names (4.1.2), contrast (1.4.3), ids, references, headings (1.3.1), language (3.1.1), landmarks,
// tab order (2.4.3), target size (2.5.8).
(root) => {
  const found = [];
  const all = (selector) => [...root.querySelectorAll(selector)];
  const shown = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: false });
  const told = (node) => `<${node.localName} class="${node.getAttribute("class") ?? ""}">`;

  const name = (node) =>
    node.getAttribute("aria-label") ||
    (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => root.getElementById(id)?.textContent ?? "").join("") ||
    [...(node.labels ?? [])].map((label) => label.textContent).join("") ||
    node.textContent.trim() || node.getAttribute("title");
  for (const node of all("button, a, input, textarea, summary, dialog, nav, [role=region], [role=group]"))
    if (shown(node) && !name(node)) found.push(`${told(node)} has no name`);
  for (const image of all("img:not([alt])")) found.push(`${told(image)} has no alternative text`);
  for (const svg of all("svg:not([aria-hidden])")) found.push(`${told(svg)} is neither named nor hidden`);

  const ids = all("[id]").map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`id ${id} is there twice`);
  for (const attribute of ["aria-labelledby", "aria-controls", "aria-describedby", "for", "popovertarget"])
    for (const node of all(`[${attribute}]`))
      for (const id of node.getAttribute(attribute).split(" "))
        if (!root.getElementById(id)) found.push(`${told(node)}: ${attribute} leads to no ${id}`);
  for (const node of all("[tabindex]")) if (node.tabIndex > 0) found.push(`${told(node)} jumps the tab order`);

  const levels = all("h1, h2, h3, h4").filter(shown).map((node) => Number(node.localName[1]));
  levels.forEach((level, i) => {
    if (level > (levels[i - 1] ?? level) + 1) found.push(`a heading of level ${level} after ${levels[i - 1]}`);
  });
  if (root === document) {
    if (!document.documentElement.lang) found.push("the page has no language");
    if (all("main").length !== 1) found.push("the page has not one main part");
    if (all("h1").length !== 1) found.push("the page has not one h1");
    if (!all("[role=status]").length) found.push("nothing tells a screen reader of an answer");
  }

  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color, under = [255, 255, 255]) => {
    canvas.fillStyle = `rgb(${under.slice(0, 3)})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const background = (node) => {
    const over = [];
    for (let at = node; at; at = at.parentElement ?? at.getRootNode().host) over.unshift(getComputedStyle(at).backgroundColor);
    return over.reduce((under, color) => rgba(color, under), [255, 255, 255]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  let texts = 0;
  for (const node of all("*")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !shown(node) || node.closest(".hidden, .skip, noscript, style, script, title")) continue;
    texts += 1;
    const style = getComputedStyle(node);
    const under = background(node);
    const ratio = contrast(rgba(style.color, under), under);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${told(node)} has a contrast of ${ratio.toFixed(2)}`);
  }
  if (!texts) found.push("there is no text at all: the checks saw nothing");

  for (const node of all("button, a")) {
    const { width, height } = node.getBoundingClientRect();
    const inline = getComputedStyle(node).display === "inline" || node.matches(".plain, .skip");
    if (shown(node) && width && !inline && (width < 24 || height < 24)) found.push(`${told(node)} is ${width} x ${height}`);
  }
  return [...new Set(found)];
}
