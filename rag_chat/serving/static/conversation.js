// A conversation to read and to go on with, in the page or inside the widget's shadow root.

import { element, icon } from "./elements.js";
import { PassageDialog } from "./passage.js";
import { TurnView } from "./turns.js";

const NEAR = 120; // pixels from the end at which a reader is taken to follow what is written

export class Conversation {
  /**
   * place: the element it fills. onStart(id): a new conversation got its name; onTurn(): a turn was kept;
   * onError(error): something failed that no turn can show; true when it was dealt with.
   */
  constructor(place, client, { hint = [], onStart = () => {}, onTurn = () => {}, onError = () => false } = {}) {
    this.client = client;
    this.on = { start: onStart, turn: onTurn, error: onError };
    this.id = null;
    this.last = 0; // the number of the last turn
    this.passage = new PassageDialog(client);
    this.earlier = element("button", { type: "button", class: "plain earlier", hidden: true,
      onclick: () => this.#loadEarlier() }, "Show earlier turns");
    this.turns = list(); // the end of the conversation; what is loaded of before is a list of its own each time
    this.hint = element("div", { class: "hint" }, ...hint);
    this.scroll = element("div", { class: "scroll", tabindex: "0", role: "region",
      "aria-label": "Conversation" }, this.hint, this.earlier, this.turns);
    this.status = element("p", { class: "hidden", role: "status" });
    this.notice = element("p", { class: "failed notice", role: "alert", hidden: true });
    place.append(this.scroll, this.notice, this.#composer(), this.status, this.passage.node);
    new IntersectionObserver(([seen]) => seen.isIntersecting && this.scroll.scrollTop < NEAR &&
      this.turns.children.length && this.#loadEarlier(), { root: this.scroll }).observe(this.earlier);
  }

  /** Show a stored conversation, or an empty one for null. */
  async open(id) {
    this.#stop();
    this.id = id;
    this.last = 0;
    this.first = null;
    for (const old of this.scroll.querySelectorAll(".turns")) old.remove();
    this.turns = list();
    this.scroll.append(this.turns);
    this.earlier.hidden = true;
    this.notice.hidden = true;
    this.hint.hidden = Boolean(id);
    if (!id) return;
    try {
      const { turns, more } = await this.client.session(id);
      if (this.id !== id) return;
      this.turns.append(...turns.map((turn) => this.#shown(turn)));
      this.first = turns[0].turn;
      this.last = turns.at(-1).turn;
      this.#toEnd();
      this.earlier.hidden = !more;
    } catch (error) {
      if (this.id !== id) return;
      this.hint.hidden = false;
      if (error.status !== 404) this.#tell(error);
    }
  }

  focus() {
    this.input.focus();
  }

  async ask(question) {
    const view = this.#view(question);
    const abort = new AbortController();
    this.abort = abort;
    this.hint.hidden = true;
    this.notice.hidden = true;
    view.wait();
    this.turns.append(view.node);
    this.#toEnd();
    this.#busy(true);
    this.status.textContent = "Answering";
    try {
      if (!this.id) {
        const id = await this.client.create();
        abort.signal.throwIfAborted();
        this.id = id;
        this.on.start(id);
      }
      const append = (text) => this.#following(() => view.append(text));
      const answer = await this.client.ask(question, this.id, append, abort.signal);
      view.turn = ++this.last;
      this.#following(() => view.finish({ ...answer, question }));
      this.status.textContent = answer.abstained ? `No answer: ${answer.reason}` : `Answer: ${answer.answer}`;
      this.on.turn();
    } catch (error) {
      this.status.textContent = "";
      this.#failed(view, question, error);
    }
    if (this.abort === abort) this.#busy(false);
  }

  #composer() {
    this.input = element("textarea", { rows: "1", "aria-label": "Your question", dir: "auto",
      placeholder: "Ask a question", enterkeyhint: "send", maxlength: "20000",
      oninput: () => this.#fit(), onkeydown: (event) => this.#key(event) });
    this.send = element("button", { type: "submit", class: "round primary", "aria-label": "Send",
      title: "Send" }, icon("send"));
    this.halt = element("button", { type: "button", class: "round primary", "aria-label": "Stop answering",
      title: "Stop answering", hidden: true, onclick: () => this.#stop() }, icon("stop"));
    return element("form", { class: "composer", onsubmit: (event) => this.#submit(event) },
      element("div", { class: "box" }, this.input, this.send, this.halt));
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
  }

  #submit(event) {
    event.preventDefault();
    const question = this.input.value.trim();
    if (!question || this.abort) return;
    this.input.value = "";
    this.#fit();
    this.ask(question);
  }

  /** As high as its text; the style sheet sets the bound. */
  #fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }

  #busy(busy) {
    const focused = this.halt.matches(":focus");
    if (!busy) this.abort = null;
    this.send.hidden = busy;
    this.halt.hidden = !busy;
    if (focused) this.focus();
  }

  #stop() {
    this.abort?.abort();
    this.abort = null;
    this.#busy(false);
  }

  #failed(view, question, error) {
    if (this.on.error(error)) {
      view.node.remove();
      this.input.value ||= question;
      return;
    }
    const again = () => {
      if (this.abort) return;
      view.node.remove();
      this.ask(question);
      this.focus();
    };
    const wait = error.retryAfter ? ` Try again in about ${error.retryAfter} s.` : "";
    const message = error.name === "AbortError" ? "Stopped. This turn is not kept." : error.message + wait;
    this.#following(() => view.fail(message, again));
  }

  #view(question) {
    const view = new TurnView(question, {
      open: (citation) => this.passage.open(citation).catch((error) => this.#tell(error)),
      rate: (rating) => this.#rate(view.turn, rating),
    });
    return view;
  }

  #shown(turn) {
    const view = this.#view(turn.question);
    view.turn = turn.turn;
    view.finish(turn);
    return view.node;
  }

  async #rate(turn, rating) {
    try {
      await this.client.rate(this.id, turn, rating);
    } catch (error) {
      this.#tell(error);
      return false;
    }
    this.status.textContent = "Thank you, your rating is kept.";
    return true;
  }

  async #loadEarlier() {
    if (this.loading || this.earlier.hidden) return;
    const { id, first } = this;
    this.loading = true;
    try {
      const { turns, more } = await this.client.session(id, first);
      if (this.id !== id) return;
      const below = this.scroll.scrollHeight - this.scroll.scrollTop;
      this.earlier.after(list(...turns.map((turn) => this.#shown(turn))));
      this.first = turns[0].turn;
      this.earlier.hidden = !more;
      this.scroll.scrollTop = this.scroll.scrollHeight - below;
    } catch (error) {
      this.#tell(error);
    } finally {
      this.loading = false;
    }
  }

  #tell(error) {
    if (this.on.error(error)) return;
    this.notice.textContent = error.message;
    this.notice.hidden = false;
  }

  /** Change something, and stay at the end when the reader is there. */
  #following(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.scroll;
    change();
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.#toEnd();
  }

  #toEnd() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }
}

function list(...turns) {
  return element("ol", { class: "turns", "aria-label": "Turns" }, ...turns);
}
