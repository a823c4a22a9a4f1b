// The list of conversations that the server keeps for this learner.

import { call, explain, json } from "./api.js";
import { $, button, element, tell as show } from "./dom.js";
import { restore } from "./lesson.js";
import { begin, state, tell, when, words } from "./state.js";

const PAGE = 30;
const dialog = $("sessions");

let sessions = [];
let next = null;

async function run(work) {
  show(dialog.querySelector(".error"), null);
  show(dialog.querySelector(".status"), words().loading);
  try {
    await work();
  } catch (error) {
    show(dialog.querySelector(".error"), explain(error, words()));
  } finally {
    show(dialog.querySelector(".status"), null);
  }
}

async function load(before = null) {
  const page = await json(`/sessions?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
  sessions = [...(before ? sessions : []), ...page.sessions];
  next = page.next;
  render();
}

function action(className, label, it, work) {
  const made = button(className, label, () => run(work));
  made.setAttribute("aria-label", words().sessionLabel(label, it.topic || words().untitled));
  return made;
}

function entry(it) {
  const topic = it.topic || words().untitled;
  const date = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  const facts = [date.format(new Date(it.updated_at)), words().messages(it.messages)];
  if (it.completed) facts.push(words().completed);
  if (it.session_id === state.session) facts.push(words().current);
  const path = `/sessions/${encodeURIComponent(it.session_id)}`;
  const open = action("", words().open, it, async () => {
    await restore(it);
    dialog.close();
    tell("go", "teach");
    $("explanation").focus();
  });
  const complete = action("quiet", words().complete, it, async () => {
    await call(`${path}/complete`, { method: "POST" });
    it.completed = true;
    render();
  });
  const remove = action("quiet", words().remove, it, async () => {
    if (!confirm(words().removing(topic))) return;
    // Somebody else may have deleted it before.
    await call(path, { method: "DELETE" }).catch((error) => { if (error.status !== 404) throw error; });
    sessions = sessions.filter((other) => other !== it);
    if (it.session_id === state.session) begin();
    render();
    $("sessions-close").focus();
  });
  return element("li", "card", element("strong", "", topic), element("p", "hint", facts.join(" · ")),
    element("div", "actions start", open, it.completed ? null : complete, remove));
}

function render() {
  $("session-list").replaceChildren(...sessions.map(entry));
  if (!sessions.length) $("session-list").append(element("li", "hint", words().noSessions));
  $("sessions-more").hidden = !next;
}

$("list").addEventListener("click", () => {
  dialog.showModal();
  run(() => load());
});
$("sessions-close").addEventListener("click", () => dialog.close());
$("sessions-more").addEventListener("click", () => run(() => load(next)));
when("language", () => { if (dialog.open) render(); });
