// The lesson: what was said stays in this browser, so a reload or a lost connection loses nothing.

import { TEXT } from "./text.js";
import { teach } from "./stream.js";

const KEY = "lyceum.lesson";
const MEMORY_TURNS = 20;
const $ = (id) => document.getElementById(id);

const state = Object.assign({ session: null, topic: "", turns: [], gaps: null, draft: "", provider: null, lang: null }, load());
state.lang ??= navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
let words = TEXT[state.lang];
let running = null;
let pending = null;

function load() {
  try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; }
}

function save() {
  // A full or forbidden store must not stop the lesson.
  try { localStorage.setItem(KEY, JSON.stringify(state)); } catch { /* the page works on, without a memory */ }
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function addTurn(turn) {
  const item = element("li", turn.role);
  item.append(element("span", "who", turn.role === "user" ? words.you : words.student));
  const text = element("span", "said", turn.content);
  item.append(text);
  for (const note of turn.notes ?? []) item.append(element("p", "tools", note));
  $("log").append(item);
  return { item, text };
}

function showGaps() {
  $("gaps").replaceChildren(...(state.gaps ?? []).map((gap) => {
    const item = element("li", gap.severity);
    item.append(element("span", "kind", words.kinds[gap.kind] ?? gap.kind));
    if (gap.quote) item.append(element("q", "", gap.quote));
    if (gap.reason) item.append(element("span", "reason", gap.reason));
    return item;
  }));
  $("no-gaps").hidden = Boolean(state.gaps?.length);
  $("no-gaps").textContent = state.gaps ? words.clear : words.nogaps;
}

function showProvider() {
  const badge = $("provider");
  badge.hidden = !state.provider;
  badge.classList.toggle("offline", state.provider === "offline");
  badge.textContent = state.provider === "offline" ? words.offline : state.provider ?? "";
}

function status(text) {
  $("status").hidden = !text;
  $("status").textContent = text ?? "";
}

function render() {
  document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
  words = TEXT[state.lang];
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = words[node.dataset.text];
  document.querySelector("label[for=explanation]").textContent = state.turns.length ? words.reply : words.explanation;
  $("language").textContent = state.lang === "zh" ? "English" : "中文";
  $("language").lang = state.lang === "zh" ? "en" : "zh";
  $("welcome").hidden = state.turns.length > 0;
  $("ideas").setAttribute("aria-label", words.ideas);
  $("ideas").replaceChildren(...words.examples.map(([topic, text]) => {
    const item = element("li");
    const button = element("button", "quiet", topic);
    button.type = "button";
    button.addEventListener("click", () => { $("topic").value = topic; $("explanation").value = text; keepDraft(); $("explanation").focus(); });
    item.append(button);
    return item;
  }));
  $("log").replaceChildren();
  for (const turn of state.turns) addTurn(turn);
  showGaps();
  showProvider();
}

function keepDraft() {
  state.topic = $("topic").value;
  state.draft = $("explanation").value;
  save();
}

function busy(on) {
  $("send").disabled = on;
  $("fresh").disabled = on;
  $("language").disabled = on;
  $("stop").hidden = !on;
}

async function ask(explanation) {
  pending = explanation;
  $("error").hidden = true;
  $("welcome").hidden = true;
  busy(true);
  status(words.thinking);
  running = new AbortController();
  const memory = state.turns.slice(-MEMORY_TURNS).map(({ role, content }) => ({ role, content }));
  const mine = addTurn({ role: "user", content: explanation });
  const reply = addTurn({ role: "assistant", content: "" });
  reply.text.classList.add("typing");
  reply.item.hidden = true;
  mine.item.scrollIntoView({ block: "nearest" });
  const notes = [];
  let result = null;
  const on = {
    text(chunk) { reply.item.hidden = false; status(null); reply.text.textContent += chunk; },
    event(name, value) {
      if (name === "queued") status(words.queued(value.position, Math.ceil((value.estimated_wait_ms ?? 0) / 1000)));
      else if (name === "node") status(words[value.node] ?? words.thinking);
      else if (name === "tool") notes.push(`${words.used}${value.tool} ${value.arguments ?? ""}`);
      else if (name === "gaps") { state.gaps = value.gaps; showGaps(); }
      else if (name === "result") result = value;
    },
  };
  try {
    await teach({ topic: state.topic, explanation, session_id: state.session ?? undefined, short_term_memory: memory }, on, running.signal);
    if (!result) throw new Error(words.cut);
    finish(explanation, reply, notes, result);
  } catch (error) {
    mine.item.remove();
    reply.item.remove();
    $("explanation").value = explanation;
    keepDraft();
    $("welcome").hidden = state.turns.length > 0;
    if (error.name !== "AbortError") showError(error);
  } finally {
    reply.text.classList.remove("typing");
    running = null;
    busy(false);
    status(null);
  }
}

function finish(explanation, reply, notes, result) {
  const content = reply.text.textContent.trim() || result.questions.join("\n");
  if (result.degraded?.length) notes.push(words.partly(result.degraded.join(", ")));
  state.turns.push({ role: "user", content: explanation }, { role: "assistant", content, notes });
  state.session = result.session_id;
  state.gaps = result.gaps ?? [];
  state.provider = result.provider;
  state.draft = "";
  pending = null;
  $("explanation").value = "";
  save();
  render();
  $("log").lastElementChild?.scrollIntoView({ block: "nearest" });
  $("explanation").focus({ preventScroll: true });
}

function showError(error) {
  const lost = error instanceof TypeError;
  const text = lost ? words.lost : error.message || (error.status ? words.failed(error.status) : words.cut);
  $("error-text").textContent = error.request ? `${text} (${error.request})` : text;
  $("retry").hidden = error.retryable === false;
  $("error").hidden = false;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const explanation = $("explanation").value.trim();
  if (running || !explanation) return;
  keepDraft();
  $("explanation").value = "";
  ask(explanation);
});
$("retry").addEventListener("click", () => { if (!running && pending) { $("explanation").value = ""; ask(pending); } });
$("stop").addEventListener("click", () => running?.abort());
$("explanation").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
for (const id of ["topic", "explanation"]) $(id).addEventListener("input", keepDraft);
$("language").addEventListener("click", () => { state.lang = state.lang === "zh" ? "en" : "zh"; save(); render(); });
$("fresh").addEventListener("click", () => {
  if (state.turns.length && !confirm(words.confirm)) return;
  Object.assign(state, { session: null, topic: "", turns: [], gaps: null, draft: "" });
  $("topic").value = "";
  $("explanation").value = "";
  $("error").hidden = true;
  save();
  render();
  $("topic").focus();
});

$("topic").value = state.topic;
$("explanation").value = state.draft;
render();
fetch("/health").then((it) => it.json()).then((health) => {
  if (health.provider) { state.provider = health.provider; showProvider(); }
}).catch(() => { /* the badge comes with the first answer */ });
