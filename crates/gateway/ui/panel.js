// The panel: four agents in four columns, who speak at the same time.

import { explain } from "./api.js";
import { $, element, tell as show } from "./dom.js";
import { when, words } from "./state.js";
import { follow } from "./stream.js";

const AGENTS = ["planner", "critic", "host", "reporter"];

let running = null;
let speeches = new Map();
let result = null;

const home = $("panel-panel");
const tell = (text) => show(home.querySelector(".status"), text);

function columns() {
  $("columns").replaceChildren(...AGENTS.map((agent) => {
    const column = element("section", "card column", element("h2", "", words().agents[agent]));
    column.dataset.agent = agent;
    column.setAttribute("aria-label", words().agents[agent]);
    return column;
  }));
  for (const [key, text] of speeches) speech(...key.split(" ")).textContent = text;
}

// The place of an agent's words of a round.
function speech(agent, round) {
  const column = $("columns").querySelector(`[data-agent="${CSS.escape(agent)}"]`) ?? $("columns").lastElementChild;
  let place = column.querySelector(`[data-round="${Number(round)}"]`);
  if (!place) {
    place = element("p", "said");
    place.dataset.round = round;
    column.append(element("h3", "", words().round(round)), place);
  }
  return place;
}

function report() {
  $("report").hidden = !result;
  if (!result) return;
  $("report").replaceChildren(element("h2", "", words().report), element("div", "said", result.report));
  if (result.dissent.length) $("report").append(element("h3", "", words().dissent), element("ul", "", ...result.dissent.map((it) => element("li", "", it))));
  if (result.consensus) $("report").append(element("p", "hint", words().consensus));
  if (result.degraded?.length) $("report").append(element("p", "hint", words().partly(result.degraded.map((it) => words().agents[it] ?? it).join(", "))));
}

async function discuss(body) {
  running = new AbortController();
  [speeches, result] = [new Map(), null];
  $("panel-go").disabled = true;
  $("panel-stop").hidden = false;
  home.setAttribute("aria-busy", "true");
  show(home.querySelector(".error"), null);
  columns();
  report();
  tell(words().discussing);
  const say = ({ agent, round, text }, isWhole) => {
    const key = `${agent} ${round}`;
    speeches.set(key, isWhole ? text : (speeches.get(key) ?? "") + text);
    speech(agent, round).textContent = speeches.get(key);
  };
  const on = {
    waiting({ position, seconds }) { tell(words().inline(position, seconds)); },
    lost(times) { tell(words().reconnecting(times)); },
    found() { tell(words().discussing); },
    text() { /* the panel's words are named events */ },
    event(name, value) {
      if (name === "round") tell(`${words().discussing} ${words().round(value.round)}`);
      else if (name === "queued") tell(words().panelQueued(words().agents[value.agent] ?? value.agent, value.position));
      else if (name === "text") say(value, false);
      else if (name === "spoke") say(value, true);
      else if (name === "result") result = value;
    },
  };
  try {
    await follow({ path: "/panel/stream", body }, on, running.signal);
    report();
  } catch (error) {
    if (error.name !== "AbortError") show(home.querySelector(".error"), explain(error, words()));
  } finally {
    running = null;
    tell(null);
    home.removeAttribute("aria-busy");
    $("panel-go").disabled = false;
    $("panel-stop").hidden = true;
  }
}

$("panel-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("position").value.trim();
  const topic = $("panel-topic").value.trim();
  if (!running && text && topic) discuss({ topic, text, rounds: Number($("rounds").value) || undefined });
});
$("panel-stop").addEventListener("click", () => running?.abort());
when("language", () => { if (speeches.size) columns(); report(); });
