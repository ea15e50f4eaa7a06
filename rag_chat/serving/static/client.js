// The server's own API (docs/serving.md), for the chat page and the widget.

/** What the server answered instead of what was asked for; `retryAfter` in seconds, or 0. */
export class ServerError extends Error {
  constructor(message, status = 0, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export class Client {
  /**
   * base: the server's origin ("" for the page's own). headers: sent with each request; the caller may
   * change them. credentials: "same-origin" for the page, whose owner is a cookie, "omit" for the widget.
   */
  constructor(base = "", { headers = {}, credentials = "same-origin" } = {}) {
    this.base = base;
    this.headers = headers;
    this.credentials = credentials;
  }

  async sessions() {
    return (await this.#json("GET", "/api/sessions")).sessions;
  }

  /** The last turns of a conversation, or the last before a turn: {turns, more}. */
  session(id, before) {
    const query = before ? `?before=${before}` : "";
    return this.#json("GET", `/api/sessions/${encodeURIComponent(id)}${query}`);
  }

  async create() {
    return (await this.#json("POST", "/api/sessions")).id;
  }

  remove(id) {
    return this.#json("DELETE", `/api/sessions/${encodeURIComponent(id)}`);
  }

  passage(id) {
    return this.#json("GET", `/api/passages/${encodeURIComponent(id)}`);
  }

  rate(session, turn, rating) {
    return this.#json("POST", "/api/feedback", { session, turn, rating });
  }

  /** Ask, call onPiece with each piece of the answer, and return the answer whole. */
  async ask(question, session, onPiece, signal) {
    const response = await this.#fetch("POST", "/api/ask", { question, session, stream: true }, signal);
    for await (const { event, data } of events(response.body)) {
      if (event === "piece") onPiece(data.text);
      if (event === "answer") return data;
      if (event === "error") throw new ServerError(data.error.message);
    }
    throw new ServerError("The connection broke before the answer was whole. Ask again.");
  }

  async #json(method, path, body) {
    const response = await this.#fetch(method, path, body);
    return response.status === 204 ? null : response.json();
  }

  async #fetch(method, path, body, signal) {
    const headers = { ...this.headers };
    if (body) headers["content-type"] = "application/json";
    const options = { method, headers, credentials: this.credentials, signal };
    if (body) options.body = JSON.stringify(body);
    let response;
    try {
      response = await fetch(this.base + path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server cannot be reached. Check the connection and try again.");
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => null);
    const message = told?.error?.message ?? `The server answered with status ${response.status}.`;
    throw new ServerError(message, response.status, Number(response.headers.get("retry-after")) || 0);
  }
}

/** The server-sent events of a body: {event, data}, with data parsed. */
async function* events(body) {
  let text = "";
  for await (const chunk of chunks(body.pipeThrough(new TextDecoderStream()))) {
    text += chunk;
    const blocks = text.split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/);
      const field = (name) =>
        lines.filter((line) => line.startsWith(name)).map((line) => line.slice(name.length).trimStart());
      const data = field("data:").join("\n");
      if (data) yield { event: field("event:")[0], data: JSON.parse(data) };
    }
  }
}

/** The chunks of a stream; not every browser can loop over one. */
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
