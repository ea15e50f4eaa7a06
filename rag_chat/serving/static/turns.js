// One turn of a conversation as elements: the question, the answer, what it rests on, and why.

import { element, icon } from "./elements.js";

/**
 * A turn: a list item. `handlers`: open(citation or passage) shows a passage, rate(rating) keeps a rating.
 * While it streams, `append(text)` adds to the answer; `finish(turn)` shows the whole of it.
 */
export class TurnView {
  constructor(question, handlers) {
    this.handlers = handlers;
    this.text = element("p", { class: "text", dir: "auto" });
    this.said = element("div", { class: "said" }, element("h2", { class: "hidden" }, "Answer"), this.text);
    this.node = element(
      "li",
      { class: "turn" },
      element(
        "div",
        { class: "asked" },
        element("h2", { class: "hidden" }, "Question"),
        element("p", { class: "text", dir: "auto" }, question),
      ),
      this.said,
    );
  }

  wait() {
    this.said.setAttribute("aria-busy", "true");
    this.said.classList.add("waiting");
  }

  append(text) {
    this.said.classList.remove("waiting");
    this.text.append(text);
  }

  finish(turn) {
    this.said.removeAttribute("aria-busy");
    this.said.classList.remove("waiting");
    this.text.replaceChildren(...marked(turn.answer, turn.abstained ? [] : (turn.unsupported ?? [])));
    if (turn.abstained) this.#abstained();
    const dotted = this.text.children.length ? "What is underlined with dots has no support in the documents." : "";
    if (turn.reason || dotted) this.said.append(element("p", { class: "reason" }, turn.reason || dotted));
    if (turn.citations.length) this.said.append(this.#citations(turn.citations));
    this.said.append(element("div", { class: "foot" }, this.#ratings(), why(turn, this.handlers.open)));
  }

  fail(message, again) {
    this.said.removeAttribute("aria-busy");
    this.said.classList.remove("waiting");
    this.said.append(
      element(
        "p",
        { class: "failed", role: "alert" },
        message,
        " ",
        element("button", { type: "button", class: "plain", onclick: again }, "Ask again"),
      ),
    );
  }

  #abstained() {
    this.said.classList.add("abstained");
    this.text.before(element("p", { class: "label" }, icon("none"), "No answer in the documents"));
  }

  #citations(citations) {
    const one = (citation, n) =>
      element(
        "li",
        {},
        element(
          "button",
          {
            type: "button",
            class: "citation",
            "aria-haspopup": "dialog",
            title: citation.source,
            onclick: () => this.handlers.open(citation),
          },
          element("span", { class: "number", "aria-hidden": "true" }, String(n + 1)),
          element("span", { class: "name", dir: "auto" }, citation.title || citation.source),
          element("span", { class: "quote", dir: "auto" }, citation.quote),
        ),
      );
    return element("ol", { class: "citations", "aria-label": "Sources" }, ...citations.map(one));
  }

  #ratings() {
    const button = (rating, name) =>
      element(
        "button",
        { type: "button", class: "round", "aria-pressed": "false", "aria-label": name, title: name,
          onclick: (event) => this.#rate(event.currentTarget, rating) },
        icon(rating),
      );
    return element(
      "div",
      { class: "ratings", role: "group", "aria-label": "Was this answer good?" },
      button("up", "Good answer"),
      button("down", "Bad answer"),
    );
  }

  async #rate(pressed, rating) {
    if (!(await this.handlers.rate(rating))) return;
    for (const one of pressed.parentElement.children) one.setAttribute("aria-pressed", one === pressed);
  }
}

/** A text in pieces, with the sentences that nothing supports marked. */
function marked(text, sentences) {
  const pieces = [];
  let rest = text;
  for (const sentence of sentences) {
    const at = rest.indexOf(sentence);
    if (at < 0) continue;
    pieces.push(rest.slice(0, at), element("span", { class: "unsupported" }, sentence));
    rest = rest.slice(at + sentence.length);
  }
  return [...pieces, rest];
}

/** How an answer came about, folded up. */
function why(turn, open) {
  const found = turn.hits ?? turn.passages;
  const seconds = Object.values(turn.timings_ms).reduce((sum, ms) => sum + ms, 0) / 1000;
  const rows = [
    ["Searched for", turn.query || turn.question],
    ["Passages read", found.length ? passages(found, turn.citations, open) : "None"],
    turn.dropped?.length ? ["Left out", turn.dropped.join(" ")] : null,
    ["Answered by", `${turn.model}, in ${seconds.toFixed(seconds < 1 ? 2 : 1)} s`],
  ].filter((row) => row);
  const terms = rows.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", { dir: "auto" }, value),
  ]);
  const summary = element("summary", {}, turn.abstained ? "Why no answer" : "Why this answer");
  return element("details", { class: "why" }, summary, element("dl", {}, ...terms));
}

function passages(found, citations, open) {
  const cited = new Set(citations.map((citation) => citation.passage_id));
  const row = (hit) =>
    element(
      "li",
      {},
      element(
        "button",
        { type: "button", class: "plain", "aria-haspopup": "dialog", onclick: () => open({ passage_id: hit.passage_id }) },
        hit.title || hit.source,
      ),
      element("span", { class: "source" }, hit.source),
      cited.has(hit.passage_id) ? element("span", { class: "cited" }, "cited") : null,
    );
  return element("ol", { class: "passages" }, ...found.map(row));
}
