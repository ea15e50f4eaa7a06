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

  async open(citation) {
    const passage = await this.client.passage(citation.passage_id);
    const letters = Array.from(passage.text); // spans count code points, strings UTF-16 units
    const [start, end] = [citation.start - passage.start, citation.end - passage.start];
    const mark = element("mark", {}, letters.slice(start, end).join(""));
    this.title.textContent = passage.title || passage.source;
    this.source.textContent = passage.source;
    this.context.textContent = passage.context === passage.title ? "" : passage.context;
    this.text.replaceChildren(letters.slice(0, start).join(""), mark, letters.slice(end).join(""));
    this.node.showModal();
    mark.scrollIntoView({ block: "center" });
  }
}
