// What the student knows of the open conversation: the map, the map in words, the gaps beside the lesson.

import { call, explain, json } from "./api.js";
import { $, button, element, tell as show } from "./dom.js";
import { Drawing } from "./map.js";
import { save, state, tell, when, words } from "./state.js";

const OPEN = ["open", "asked"];
const ORDER = { high: 0, medium: 1, low: 2 };

let map = null;
let drawing = null;
let asked = 0;

export const address = (rest) => `/sessions/${encodeURIComponent(state.session)}/${rest}`;

// What a number in the student's words stands for.
export const node = (id) => map?.nodes.find((it) => it.id === id);

async function refresh() {
  const mine = (asked += 1);
  const session = state.session;
  let found = null;
  // Without it the page works on with the gaps of the last answer.
  if (session) found = await json(address("knowledge")).catch(() => null);
  if (mine !== asked || session !== state.session) return;
  map = found;
  tell("known");
}

async function dismiss(id) {
  try {
    map = await call(address(`gaps/${id}/dismiss`), { method: "POST" }).then((answer) => answer.json());
    tell("known");
    // The button that was used is gone.
    ($("panel-map").hidden ? $("gaps-title") : $("panel-map")).focus();
  } catch (error) {
    show($("progress"), explain(error, words()));
  }
}

// Points at a node on the map, and says what it is.
export function choose(id) {
  const chosen = node(id);
  drawing?.choose(id);
  show($("map-caption"), chosen && `[${chosen.kind === "gap" ? "?" : ""}${id}] ${title(chosen)}: ${chosen.label}${chosen.reason ? ` — ${chosen.reason}` : ""}`);
  for (const item of document.querySelectorAll("#map-list [data-node]")) item.classList.toggle("chosen", Number(item.dataset.node) === id);
}

function title(it) {
  const kind = it.kind === "gap" ? words().kinds[it.gap] ?? it.gap : words().nodes[it.kind];
  return it.status ? `${kind} (${words().states[it.status]})` : kind;
}

function gapsBeside() {
  const gaps = map?.nodes.filter((it) => it.kind === "gap");
  const open = gaps?.filter((it) => OPEN.includes(it.status)).sort((a, b) => ORDER[a.severity] - ORDER[b.severity]);
  const closed = gaps?.filter((it) => it.status === "answered").length ?? 0;
  const all = closed + (open?.length ?? 0);
  show($("progress"), all ? words().progress(closed, all) : null);
  const list = open?.map((it) => ({ id: it.id, kind: it.gap, quote: it.label, reason: it.reason, severity: it.severity })) ?? state.gaps ?? [];
  $("gaps").replaceChildren(...list.map((gap) => {
    const item = element("li", gap.severity, element("span", "kind", words().kinds[gap.kind] ?? gap.kind));
    if (gap.quote) item.append(element("q", "", gap.quote));
    if (gap.reason) item.append(element("span", "reason", gap.reason));
    if (gap.id) item.append(dismissal(gap.id, gap.quote || gap.reason));
    return item;
  }));
  show($("no-gaps"), list.length ? null : state.gaps ? words().clear : words().nogaps);
}

function dismissal(id, quote) {
  const it = button("quiet small", words().dismiss, () => dismiss(id));
  it.setAttribute("aria-label", words().dismissing(quote));
  return it;
}

// The list says everything that the drawing shows.
function inWords() {
  const about = new Map();
  for (const edge of map.edges) if (edge.kind === "about") about.set(edge.from, [...(about.get(edge.from) ?? []), edge.to]);
  const answers = map.edges.filter((edge) => edge.kind === "answers");
  const rest = map.nodes.filter((it) => it.kind !== "concept" && it.status !== "dismissed");
  const entry = (it) => {
    const number = `[${it.kind === "gap" ? "?" : ""}${it.id}]`;
    const pointer = button("ref", number, () => { choose(it.id); $("map").scrollIntoView({ block: "nearest" }); });
    pointer.setAttribute("aria-label", words().ref(number));
    const by = answers.filter((edge) => edge.to === it.id).map((edge) => `[${edge.from}]`).join(" ");
    const item = element("li", `${it.kind} ${it.status ?? ""}`, pointer, " ", element("strong", "", `${title(it)}: `), it.label);
    if (it.support && !it.label.includes(it.support)) item.append(` (${words().support} ${it.support})`);
    if (it.reason) item.append(element("span", "reason", ` — ${it.reason}`));
    if (by) item.append(` ← ${by}`);
    if (OPEN.includes(it.status) && it.kind === "gap") item.append(" ", dismissal(it.id, it.label));
    item.dataset.node = it.id;
    return item;
  };
  const group = (name, percent, items) => {
    const heading = element("h3", "", name);
    if (percent !== null) {
      const meter = element("meter", "");
      Object.assign(meter, { min: 0, max: 100, low: 40, high: 70, optimum: 100, value: percent });
      meter.setAttribute("aria-label", words().mastery(name, percent));
      heading.append(" ", meter, element("span", "hint", ` ${percent} %`));
    }
    return element("section", "", heading, element("ul", "plain", ...items.map(entry)));
  };
  const groups = map.mastery.map((it) => group(it.name, Math.round(it.mastery * 100), rest.filter((one) => about.get(one.id)?.includes(it.concept))));
  const other = rest.filter((one) => !about.has(one.id));
  if (other.length) groups.push(group(words().other, null, other));
  if (map.dropped) groups.push(element("p", "hint", words().dropped(map.dropped)));
  $("map-list").replaceChildren(...groups);
}

function render() {
  gapsBeside();
  $("map-view").hidden = !map;
  $("panel-map").querySelector(".needs").hidden = Boolean(map);
  if (!map) return;
  const count = (kind, states) => map.nodes.filter((it) => it.kind === kind && (!states || states.includes(it.status))).length;
  drawing ??= new Drawing($("map"), choose);
  drawing.draw(map, words().mapImage(count("concept"), count("claim"), count("gap", OPEN), count("gap", ["answered"])));
  inWords();
  if (!$("map-caption").textContent) show($("map-caption"), words().mapHint);
}

// The gaps of an answer under way, before the map has them.
export function found(gaps) {
  state.gaps = gaps;
  save();
  map = null;
  gapsBeside();
}

when("known", render);
when("language", () => { show($("map-caption"), null); render(); });
when("taught", refresh);
when("conversation", () => {
  map = null;
  drawing?.svg.remove();
  drawing = null;
  show($("map-caption"), null);
  render();
  refresh();
});
