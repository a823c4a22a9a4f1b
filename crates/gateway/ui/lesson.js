// The lesson: what is said, as it is said. An answer under way outlives a lost connection and a reload.

import { explain, json } from "./api.js";
import { $, button, element, tell as show } from "./dom.js";
import { found } from "./knowledge.js";
import { begin, save, state, tell, when, words } from "./state.js";
import { follow } from "./stream.js";

const MEMORY_TURNS = 20;

let running = null;
let pending = null;

export const isBusy = () => running !== null;

function addTurn(turn) {
  const text = element("span", "said", turn.content);
  const item = element("div", `turn ${turn.role}`, element("span", "who", turn.role === "user" ? words().you : words().student), text);
  for (const tool of turn.tools ?? []) item.append(lookedUp(tool));
  for (const note of turn.notes ?? []) item.append(element("p", "tools", note));
  $("log").append(item);
  return { item, text };
}

// A tool call: what was asked, where the answer came from, the answer.
function lookedUp(call) {
  let what = call.arguments ?? "";
  try { what = Object.values(JSON.parse(what)).join(", "); } catch { /* shortened arguments are no JSON: shown as they are */ }
  const summary = element("summary", "", words().used(call.tool, what) + (call.ok === false ? ` (${words().failedTool})` : ""));
  const sources = [...new Set((call.result ?? "").match(/https?:\/\/[^\s"'<>\\)\]]+/g) ?? [])].slice(0, 5).map((address) => {
    const link = element("a", "", address);
    Object.assign(link, { href: address, rel: "noopener noreferrer", target: "_blank" });
    return element("li", "", link);
  });
  return element("details", "tools", summary, sources.length ? element("ul", "", ...sources) : null, element("p", "", call.result ?? ""));
}

function showProvider() {
  show($("provider"), state.provider === "offline" ? words().offline : state.provider);
  $("provider").classList.toggle("offline", state.provider === "offline");
}

function render() {
  document.querySelector("label[for=explanation]").textContent = state.turns.length ? words().reply : words().explanation;
  $("welcome").hidden = state.turns.length > 0 || running !== null;
  $("ideas").replaceChildren(...words().examples.map(([topic, text]) => element("li", "", button("quiet", topic, () => {
    $("topic").value = topic;
    $("explanation").value = text;
    keepDraft();
    $("explanation").focus();
  }))));
  $("tone").replaceChildren(...Object.entries(words().tones).map(([value, name]) => {
    const option = element("option", "", name);
    option.value = value;
    option.selected = value === state.tone;
    return option;
  }));
  $("log").replaceChildren();
  for (const turn of state.turns) addTurn(turn);
  showProvider();
}

function keepDraft() {
  state.topic = $("topic").value;
  state.draft = $("explanation").value;
  save();
}

function busy(on) {
  for (const id of ["send", "fresh", "language", "list"]) $(id).disabled = on;
  $("stop").hidden = !on;
  // Who listens hears a whole answer, not its pieces.
  $("log").setAttribute("aria-busy", String(on));
}

// Asks, or goes on with an answer that is under way at `place`.
async function ask(explanation, place = null) {
  pending = explanation;
  running = new AbortController();
  $("error").hidden = true;
  $("welcome").hidden = true;
  busy(true);
  show($("status"), words().thinking);
  const mine = addTurn({ role: "user", content: explanation });
  const reply = addTurn({ role: "assistant", content: "" });
  reply.text.classList.add("typing");
  reply.item.hidden = true;
  mine.item.scrollIntoView({ block: "nearest" });
  const tools = [];
  let result = null;
  const on = {
    place(address) { state.running = { place: address, explanation }; save(); },
    waiting({ position, seconds }) { show($("status"), words().inline(position, seconds)); },
    lost(times) { show($("status"), words().reconnecting(times)); },
    found() { show($("status"), words().thinking); },
    text(chunk) { reply.item.hidden = false; show($("status"), null); reply.text.textContent += chunk; },
    event(name, value) {
      if (name === "queued") show($("status"), words().queued(value.position, Math.ceil((value.estimated_wait_ms ?? 0) / 1000)));
      else if (name === "node") show($("status"), words()[value.node] ?? words().thinking);
      else if (name === "tool") { tools.push(value); reply.item.hidden = false; reply.item.append(lookedUp(value)); }
      else if (name === "gaps") found(value.gaps);
      else if (name === "result") result = value;
    },
  };
  const memory = state.turns.slice(-MEMORY_TURNS).map(({ role, content }) => ({ role, content }));
  const body = {
    topic: state.topic, explanation, session_id: state.session ?? undefined, tone: state.tone || undefined, short_term_memory: memory,
  };
  try {
    await follow({ path: "/chat/stream", body, place }, on, running.signal);
    if (!result) throw new Error(words().cut);
    running = null;
    finish(explanation, reply, tools, result);
  } catch (error) {
    const isForgotten = error.status === 404 && state.running !== null;
    running = null;
    state.running = null;
    if (isForgotten && await recover(explanation)) return;
    mine.item.remove();
    reply.item.remove();
    // A draft that was begun in the meantime is not lost either.
    $("explanation").value = [explanation, $("explanation").value.trim()].filter(Boolean).join("\n\n");
    keepDraft();
    $("welcome").hidden = state.turns.length > 0;
    if (error.name !== "AbortError") showError(error);
    tell("taught");
  } finally {
    busy(false);
    show($("status"), null);
  }
}

function finish(explanation, reply, tools, result) {
  const content = reply.text.textContent.trim() || result.questions.join("\n");
  const notes = result.degraded?.length ? [words().partly(result.degraded.join(", "))] : [];
  state.turns.push({ role: "user", content: explanation }, { role: "assistant", content, notes, tools });
  Object.assign(state, { session: result.session_id, gaps: result.gaps ?? [], provider: result.provider, running: null });
  pending = null;
  keepDraft();
  reply.text.classList.remove("typing");
  reply.text.textContent = content;
  reply.item.hidden = false;
  for (const note of notes) reply.item.append(element("p", "tools", note));
  document.querySelector("label[for=explanation]").textContent = words().reply;
  showProvider();
  reply.item.scrollIntoView({ block: "nearest" });
  if (!$("panel-teach").hidden) $("explanation").focus({ preventScroll: true });
  tell("taught");
}

// A stream is forgotten some minutes after its end; what was said in it is not.
async function recover(explanation) {
  const turns = await kept(state.session).catch(() => []);
  if (turns.at(-2)?.content !== explanation || turns.at(-1).role !== "assistant") return false;
  pending = null;
  begin({ session: state.session, topic: state.topic, turns, draft: $("explanation").value });
  return true;
}

function showError(error) {
  $("error-text").textContent = explain(error, words());
  $("retry").hidden = error.retryable === false;
  $("error").hidden = false;
}

// What was said in a conversation, as the server keeps it.
async function kept(session) {
  if (!session) return [];
  const { conversation } = await json(`/sessions/${encodeURIComponent(session)}?limit=100`);
  return conversation.filter(({ role }) => role === "user" || role === "assistant").map(({ role, content }) => ({ role, content }));
}

// Takes a conversation from the server's list up again.
export async function restore({ session_id: session, topic }) {
  begin({ session, topic, turns: await kept(session) });
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const explanation = $("explanation").value.trim();
  if (running || !explanation) return;
  $("explanation").value = "";
  keepDraft();
  ask(explanation);
});
$("retry").addEventListener("click", () => {
  if (running || !pending) return;
  // What was changed since is what is meant.
  const explanation = $("explanation").value.trim() || pending;
  $("explanation").value = "";
  keepDraft();
  ask(explanation);
});
$("stop").addEventListener("click", () => running?.abort());
$("explanation").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
for (const id of ["topic", "explanation"]) $(id).addEventListener("input", keepDraft);
$("tone").addEventListener("change", () => { state.tone = $("tone").value; save(); });
when("language", render);
when("conversation", () => {
  $("topic").value = state.topic;
  $("explanation").value = state.draft;
  $("error").hidden = true;
  render();
});

// Begins the page: with the answer under way, where there is one.
export function start() {
  $("topic").value = state.topic;
  $("explanation").value = state.draft;
  if (state.running) ask(state.running.explanation, state.running.place);
  json("/health").then((health) => {
    if (health.provider) { state.provider = health.provider; showProvider(); }
  }).catch(() => { /* the badge comes with the first answer */ });
}
