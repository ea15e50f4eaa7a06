// The passage behind a citation, with the cited span marked.

import { element, icon } from "./elements.js";

export class PassageDialog {
  constructor(client) {
    this.client = client;
    this.title = element("h2", { id: "passage-title", dir: "auto" });
    this.source = element("p", { class: "source" });
    this.context = element("p", { class: "context", dir: "auto" });
    this.text = element("p", { class: "passage", dir: "auto", tabindex: "0" });
    const close = { type: "button", class: "round", "aria-label": "Close", title: "Close",
      onclick: () => this.node.close() };
    this.node = element("dialog", { class: "sheet", "aria-labelledby": "passage-title",
      onclick: (event) => event.target === this.node && this.node.close() },
      element("div", { class: "inner" },
        element("header", {}, this.title, element("button", close, icon("close"))),
        this.source, this.context, this.text));
  }

  /** Show the passage `passage_id`, with its span from `start` to `end` marked where these are given. */
  async open({ passage_id, start, end }) {
    const passage = await this.client.passage(passage_id);
    const letters = Array.from(passage.text); // spans count code points, strings UTF-16 units
    const part = (from, to) => letters.slice(from - passage.start, to - passage.start).join("");
    const cited = start === undefined ? null : element("mark", {}, part(start, end));
    const rest = cited ? [part(passage.start, start), cited, part(end, passage.end)] : [passage.text];
    const { title, context } = passage;
    this.title.textContent = title || passage.source;
    this.source.textContent = passage.source;
    this.context.textContent = context.startsWith(`${title} > `) ? context.slice(title.length + 3) : context;
    this.context.hidden = context === title;
    this.text.replaceChildren(...rest);
    this.node.showModal();
    cited?.scrollIntoView({ block: "center" });
  }
}
