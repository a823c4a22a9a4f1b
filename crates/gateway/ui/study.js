// Teach-back, exam, review and notes of the open conversation. Each is asked for when its tab is opened.

import { call, explain, json } from "./api.js";
import { $, button, element, save, tell as show } from "./dom.js";
import { address, choose, node } from "./knowledge.js";
import { state, tell, when, words } from "./state.js";

const MARKDOWN = "text/markdown;charset=utf-8";

// What was shown, so that another language finds it again.
let told = null;
let answers = [];
let reviews = null;

// Runs what may fail in a tab, one at a time, and tells how it goes there. Nothing is told of a conversation that was left.
async function run(tab, work) {
  const home = $(`panel-${tab}`);
  const [status, error] = [home.querySelector(".status"), home.querySelector(".error")];
  if (!state.session || home.getAttribute("aria-busy") === "true") return null;
  const session = state.session;
  home.setAttribute("aria-busy", "true");
  show(error, null);
  show(status, words().loading);
  try {
    const done = await work();
    return session === state.session ? done : null;
  } catch (failure) {
    if (session === state.session) show(error, explain(failure, words()));
    return null;
  } finally {
    show(status, null);
    home.removeAttribute("aria-busy");
  }
}

// The student's words, in which [3] and [?7] lead to the map.
function withReferences(text) {
  return text.split(/(\[\??\d+\])/).map((part) => {
    const [, number] = /^\[\??(\d+)\]$/.exec(part) ?? [];
    if (!number) return part;
    const it = button("ref", part, () => { tell("go", "map"); choose(Number(number)); });
    it.setAttribute("aria-label", words().ref(part));
    it.title = node(Number(number))?.label ?? "";
    return it;
  });
}

function list(title, items) {
  return items.length ? element("section", "", element("h2", "", title), element("ul", "plain", ...items.map((item) => element("li", "", ...item)))) : null;
}

function showTold() {
  if (!told) return $("back-text").replaceChildren();
  const { kinds, holes, partly, removed } = words();
  $("back-text").replaceChildren(element("div", "card said", ...withReferences(told.text)));
  for (const part of [
    list(holes, told.holes.map((hole) => [...withReferences(`[?${hole.gap}]`), ` ${kinds[hole.kind] ?? hole.kind}: `, element("q", "", hole.quote), ` — ${hole.reason}`])),
    list(removed, told.removed.map((sentence) => [sentence])),
    told.degraded.length ? element("p", "hint", partly(told.degraded.join(", "))) : null,
  ]) if (part) $("back-text").append(part);
}

function showAnswers() {
  $("answers").replaceChildren(...answers.map(({ question, answer }) => element("li", "card", element("p", "who", question),
    element("p", `verdict ${answer.verdict}`, words().verdicts[answer.verdict] ?? answer.verdict),
    element("div", "said", ...withReferences(answer.text)),
    answer.not_taught.length ? element("p", "", words().notTaught + answer.not_taught.join(", ")) : null,
    list(words().removed, answer.removed.map((sentence) => [sentence])))));
}

function showReviews() {
  const date = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium" });
  $("reviews").replaceChildren(...(reviews ?? []).map((it) => {
    const again = button("quiet", words().again, () => {
      tell("go", "teach");
      $("explanation").focus();
    });
    again.setAttribute("aria-label", words().againLabel(it.name));
    const when_ = it.due ? words().due : words().dueOn(date.format(new Date(it.due_at_ms)));
    return element("li", "card", element("h2", "", it.name), element("p", it.due ? "due" : "hint", `${when_} · ${words().mastery(it.name, Math.round(it.mastery * 100))}`), element("p", "", it.task), again);
  }));
  if (reviews && !reviews.length) $("reviews").append(element("li", "hint", words().nothing));
}

async function teachBack() {
  const answer = await run("back", () => json(address("teach-back"), { method: "POST", body: { tone: state.tone || undefined } }));
  if (answer) { told = answer; showTold(); }
}

async function examine(question) {
  const answer = await run("exam", () => json(address("exam"), { method: "POST", body: { question, tone: state.tone || undefined } }));
  if (!answer) return;
  answers.unshift({ question, answer });
  showAnswers();
  $("question").value = "";
  $("question").focus();
}

async function download(what, path) {
  const text = await run("notes", () => call(address(path)).then((answer) => answer.text()));
  if (text !== null) save(`${what}-${state.topic.trim().replace(/[\s/\\:*?"<>|]+/g, "-") || "lyceum"}.md`, MARKDOWN, text);
}

// Asks for what a tab shows, when it is opened.
export async function opened(tab) {
  if (tab === "review") {
    const answer = await run(tab, () => json(address("review")));
    if (answer) { reviews = answer.review; showReviews(); }
  } else if (tab === "notes") {
    const text = await run(tab, () => call(address("notes")).then((answer) => answer.text()));
    if (text !== null) $("notes-text").textContent = text;
  }
}

function ready() {
  for (const id of ["back", "exam", "review", "notes"]) {
    $(`panel-${id}`).querySelector(".needs").hidden = Boolean(state.session);
    $(`panel-${id}`).querySelector(".ready").hidden = !state.session;
  }
}

$("back-go").addEventListener("click", teachBack);
$("exam-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (question) examine(question);
});
$("notes-save").addEventListener("click", () => download("notes", "notes"));
$("map-save").addEventListener("click", () => download("map", "knowledge?format=markdown"));
when("taught", () => { ready(); opened(state.tab); });
when("language", () => { showTold(); showAnswers(); showReviews(); });
when("conversation", () => {
  [told, answers, reviews] = [null, [], null];
  $("notes-text").textContent = "";
  ready();
  showTold();
  showAnswers();
  showReviews();
  opened(state.tab);
});
