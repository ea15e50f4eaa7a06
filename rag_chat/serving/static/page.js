// The chat page: the list of conversations around the one that is open.

import { Client } from "./client.js";
import { Conversation } from "./conversation.js";
import { element, icon } from "./elements.js";

const KEY = "rag_chat_key";
const THEMES = ["system", "light", "dark"];
const [sidebar, list, heading, confirmation, keyDialog] =
  ["sidebar", "sessions", "heading", "confirm", "key"].map((id) => document.getElementById(id));

const client = new Client("");
useKey(sessionStorage.getItem(KEY));

const conversation = new Conversation(document.getElementById("conversation"), client, {
  hint: [
    element("h2", {}, "Ask your documents"),
    element("p", {}, "Answers come with the passage they rest on. ",
      "Where the documents are silent, so is the assistant, and it says so."),
  ],
  onStart: (id) => history.pushState(null, "", `#${id}`),
  onTurn: () => listSessions(),
  onError: (error) => error.status === 401 && askForKey(),
});
conversation.input.id = "question";

/** Show the conversation that the address names. */
async function openAddressed() {
  const id = location.hash.slice(1);
  if (id && id === conversation.id) return;
  await conversation.open(/^[\w.-]{1,128}$/.test(id) ? id : null);
  markOpen();
}

let listings = 0; // asked for so far: an answer that a later one has overtaken is not shown

async function listSessions() {
  const mine = ++listings;
  let sessions;
  try {
    sessions = await client.sessions();
  } catch (error) {
    if (error.status === 401) askForKey();
    return;
  }
  if (mine !== listings) return;
  list.replaceChildren(...sessions.map(row));
  markOpen();
}

function row(session) {
  const name = session.first_question;
  const remove = { type: "button", class: "round remove", "aria-label": `Delete: ${name}`,
    title: "Delete", onclick: () => removeSession(session.id) };
  return element("li", {},
    element("a", { href: `#${session.id}`, onclick: () => sidebar.matches(":popover-open") && sidebar.hidePopover() },
      element("span", { class: "name", dir: "auto" }, name),
      element("time", { datetime: session.updated }, when(new Date(session.updated)))),
    element("button", remove, icon("remove")));
}

function when(date) {
  const today = date.toDateString() === new Date().toDateString();
  const shown = today ? { hour: "numeric", minute: "2-digit" } : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(undefined, shown).format(date);
}

function markOpen() {
  heading.textContent = "New conversation";
  for (const link of list.querySelectorAll("a")) {
    const open = link.hash === `#${conversation.id}`;
    if (open) {
      link.setAttribute("aria-current", "page");
      heading.textContent = link.querySelector(".name").textContent;
    } else link.removeAttribute("aria-current");
  }
}

async function removeSession(id) {
  confirmation.returnValue = "";
  confirmation.showModal();
  await new Promise((closed) => confirmation.addEventListener("close", closed, { once: true }));
  if (confirmation.returnValue !== "delete") return;
  await client.remove(id).catch(() => {}); // gone already, or still listed below
  if (id === conversation.id) begin();
  await listSessions();
}

function begin() {
  history.pushState(null, "", location.pathname);
  conversation.open(null);
  markOpen();
  if (sidebar.matches(":popover-open")) sidebar.hidePopover();
  conversation.focus();
}

/** Ask for the server's API key; true, for there is nothing else to tell. */
function askForKey() {
  if (keyDialog.open) return true;
  keyDialog.showModal();
  keyDialog.addEventListener("close", () => {
    const input = document.getElementById("key-input");
    if (!input.value) return;
    sessionStorage.setItem(KEY, input.value);
    useKey(input.value);
    input.value = "";
    listSessions();
    if (conversation.id) conversation.open(conversation.id);
  }, { once: true });
  return true;
}

function useKey(key) {
  if (key) client.headers.authorization = `Bearer ${key}`;
}

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const name = element("span", {}, `Theme: ${theme}`);
  document.getElementById("theme").replaceChildren(icon("theme"), name);
}

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  if (next === "system") localStorage.removeItem("rag_chat_theme");
  else localStorage.setItem("rag_chat_theme", next);
  showTheme(next);
}

document.getElementById("menu").append(icon("menu"));
document.getElementById("new").prepend(icon("add"));
document.getElementById("new").addEventListener("click", begin);
document.getElementById("theme").addEventListener("click", nextTheme);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  conversation.focus();
});
addEventListener("popstate", openAddressed);
addEventListener("hashchange", openAddressed);
showTheme(document.documentElement.dataset.theme ?? "system");
await Promise.all([openAddressed(), listSessions()]);
markOpen();
if (matchMedia("(hover: hover)").matches) conversation.focus(); // on a phone the keyboard would cover half
