// A chat for any site: <script src="https://SERVER/widget.js" data-bot="Travel desk" async></script>
// It lives in a shadow root, so that neither the site's styles nor its own reach the other.
"use strict";
(() => {
  const script = document.currentScript;
  const server = new URL(script.src).origin;
  const folder = new URL(".", script.src);
  const name = script.dataset.bot || "Assistant";

  const host = document.createElement("rag-chat-widget");
  const root = host.attachShadow({ mode: "open" });
  for (const file of ["chat.css", "widget.css"]) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(file, folder);
    root.append(link);
  }
  const attach = () => document.body.append(host);
  if (document.body) attach();
  else addEventListener("DOMContentLoaded", attach);

  /** 128 random bits, made up once and kept: by them the server knows this visitor again. */
  function visitor() {
    const kept = localStorage.getItem("rag_chat_visitor");
    if (kept) return kept;
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const made = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("rag_chat_visitor", made);
    return made;
  }

  async function build() {
    const part = (file) => import(new URL(file, folder));
    const [{ Client }, { Conversation }, { element, icon }] = await Promise.all(
      ["client.js", "conversation.js", "elements.js"].map(part),
    );
    const headers = { "x-rag-chat-visitor": visitor() };
    const client = new Client(server, { headers, credentials: "omit" });
    const panel = element("section", { class: "panel", role: "dialog", "aria-label": name, hidden: true,
      onkeydown: (event) => event.key === "Escape" && !conversation.passage.node.open && show(false) });
    const close = element("button", { type: "button", class: "round", "aria-label": "Close", title: "Close",
      onclick: () => show(false) }, icon("close"));
    const fresh = element("button", { type: "button", class: "round", "aria-label": "New conversation",
      title: "New conversation", onclick: () => begin() }, icon("add"));
    panel.append(element("header", {}, element("h2", {}, name), fresh, close));
    const launcher = element("button", { type: "button", class: "launcher", "aria-expanded": "false",
      "aria-label": `Chat with ${name}`, title: `Chat with ${name}`, onclick: () => show(panel.hidden) }, icon("chat"));
    const conversation = new Conversation(panel, client, {
      hint: [element("p", {}, "Ask a question. Answers come with the passage they rest on.")],
      onStart: (id) => sessionStorage.setItem("rag_chat_session", id),
    });
    let kept = sessionStorage.getItem("rag_chat_session"); // to be opened once

    function show(open) {
      panel.hidden = !open;
      launcher.setAttribute("aria-expanded", String(open));
      if (!open) launcher.focus();
      else {
        if (kept) conversation.open(kept);
        kept = null;
        conversation.focus();
      }
    }

    function begin() {
      sessionStorage.removeItem("rag_chat_session");
      conversation.open(null);
      conversation.focus();
    }

    root.append(element("div", { class: "chat widget" }, panel, launcher));
  }

  build().catch((error) => {
    console.error(`The chat of ${server} cannot be used here: ${error.message} ` +
      `Its operator can allow this site: rag-chat serve --allow-origin ${location.origin}`);
  });
})();
