// The operator's page: the server's figures every two seconds, and the switch for maintenance.
// What the server does not tell, because it is not configured, is left out.

import { call, explain, json } from "./api.js";
import { ask, key } from "./key.js";
import { $, element, speak, tell as show, translate } from "./dom.js";
import { TEXT } from "./operator-text.js";

const EVERY = 2_000;
const LANGUAGE = "lyceum.operator.language";

let lang = navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
try { lang = localStorage.getItem(LANGUAGE) ?? lang; } catch { /* the browser's language it is */ }
let words = TEXT[lang];
let figures = null;
let seen = 0;
let timer = null;
let isPaused = false;
let refused = null;

const number = (value, digits = 0) => new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: digits }).format(value);
const seconds = (ms) => `${number(ms / 1000, 1)} s`;

// "2 h 1 min": the two largest units.
function duration(total) {
  const parts = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const at = Math.max(0, parts.findIndex(([, size]) => total >= size));
  const rest = parts.slice(at, at + 2).reduce(([text, left], [unit, size]) => [[...text, `${Math.floor(left / size)} ${unit}`], left % size], [[], Math.floor(total)]);
  return rest[0].join(" ");
}

function table(caption, heads, rows) {
  if (!rows.length) return element("p", "hint", words.none);
  const made = element("table", "", element("caption", "visually-hidden", caption));
  const head = (text) => { const cell = element("th", "", text); cell.scope = "col"; return cell; };
  made.append(element("thead", "", element("tr", "", ...heads.map(head))));
  made.append(element("tbody", "", ...rows.map((row) => element("tr", "", ...row.map((cell) => element("td", "", cell ?? words.unknown))))));
  // A table wider than a phone scrolls by itself; the keyboard must reach it for that.
  const box = element("div", "scroll", made);
  Object.assign(box, { tabIndex: 0 });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", caption);
  return box;
}

function tiles({ uptime_seconds: uptime, load_average: load, streams, requests, costs }) {
  const all = [
    [words.uptime, uptime, duration],
    [words.active, requests?.active, number],
    [words.rate, requests?.per_second, (it) => number(it, 1)],
    [words.average, requests?.average_ms, (it) => `${number(it)} ms`],
    [words.p95, requests?.p95_ms, (it) => `${number(it)} ms`],
    [words.failures, requests?.error_rate, (it) => `${number(it * 100, 2)} %`],
    [words.streams, streams?.open, (it) => `${number(it)}${streams.limit ? ` / ${number(streams.limit)}` : ""}`],
    [words.line, streams?.waiting, number],
    [words.cost, costs?.today_usd, (it) => `$${number(it, 4)}`],
    [words.held, costs?.held_usd, (it) => `$${number(it, 4)}`],
    [words.load, load, (it) => number(it, 2)],
  ];
  $("tiles").replaceChildren(...all.filter(([, value]) => Number.isFinite(value)).map(([name, value, form]) => element("div", "tile", element("dt", "", name), element("dd", "", form(value)))));
}

function queue(it) {
  const facts = [`${words.flight}: ${number(it.running)}${it.concurrency ? ` / ${number(it.concurrency)}` : ""}`, `${words.waiting}: ${number(it.waiting)}`];
  if (it.share < 1) facts.push(words.shareOf(number(it.share * 100)));
  if (it.paused_ms) facts.push(words.paused(seconds(it.paused_ms)));
  const section = element("section", "queue", element("h3", "", it.name), element("p", "hint", facts.join(" · ")));
  if (it.shared === false) section.append(element("p", "alone", words.alone));
  for (const quota of it.quotas) {
    const kind = words.quotas[quota.kind] ?? quota.kind;
    const meter = element("meter");
    Object.assign(meter, { min: 0, max: quota.limit || 1, low: quota.limit * 0.75, high: quota.limit * 0.9, optimum: 0, value: quota.used });
    meter.setAttribute("aria-label", words.quotaLabel(kind, it.name));
    section.append(element("p", "quota", element("span", "", kind), meter, element("span", "hint", `${number(quota.used)} / ${number(quota.limit)}`)));
  }
  const bands = it.bands.filter((band) => band.waiting);
  if (bands.length) {
    section.append(table(`${words.waiting}: ${it.name}`, [words.priority, words.waiting, words.oldest],
      bands.map((band) => [words.priorities[band.priority] ?? band.priority, number(band.waiting), Number.isFinite(band.oldest_ms) ? seconds(band.oldest_ms) : null])));
  }
  return section;
}

function render() {
  speak(lang);
  translate(words);
  document.title = words.title;
  $("language").textContent = lang === "zh" ? "English" : "中文";
  $("language").lang = lang === "zh" ? "en" : "zh";
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("figures").hidden = !figures;
  $("maintenance").hidden = !figures;
  if (!figures) return;
  show($("service"), [figures.service_id, figures.version, figures.model ?? figures.provider].filter(Boolean).join(" · "));
  $("maintenance").setAttribute("aria-pressed", String(Boolean(figures.maintenance)));
  show($("closed"), figures.maintenance ? words.closed : null);
  show($("degraded"), figures.degraded?.length ? `${words.degraded} ${figures.degraded.join(", ")}` : null);
  tiles(figures);
  // A part under the reader's keyboard or pointer stays until it is left.
  replace("queues", figures.queues?.length ? figures.queues.map(queue) : [element("p", "hint", words.none)]);
  replace("breakers", [table(words.breakers, [words.name, words.state], (figures.breakers ?? []).map((it) => [it.name, element("span", `state ${it.state}`, words.states[it.state] ?? it.state)]))]);
  $("caches").parentElement.hidden = !figures.caches;
  replace("caches", [table(words.caches, [words.name, words.hits, words.misses, words.share], (figures.caches ?? []).map((it) => [it.name, number(it.hits), number(it.misses),
    it.hits + it.misses ? `${number((it.hits / (it.hits + it.misses)) * 100, 1)} %` : null]))]);
  const time = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "medium" });
  replace("errors", [table(words.errors, [words.at, words.status, words.endpoint, words.request],
    (figures.errors ?? []).map((it) => [time.format(new Date(it.at_ms)), String(it.status), it.endpoint, it.request_id]))]);
}

function replace(id, parts) {
  if (!$(id).contains(document.activeElement)) $(id).replaceChildren(...parts);
}

async function poll() {
  clearTimeout(timer);
  try {
    figures = await json("/api/operator");
    seen = Date.now();
    $("error").hidden = true;
    show($("status"), null);
    render();
  } catch (error) {
    const isRefused = error.status === 401 || error.status === 403;
    $("error-text").textContent = isRefused ? `${words.noKey} ${error.message}` : explain(error, words);
    $("error").hidden = false;
    show($("status"), figures ? words.stale(number((Date.now() - seen) / 1000)) : null);
    // A key is asked for when somebody wants it, not every two seconds.
    refused = isRefused ? key() : null;
    if (isRefused) return;
  }
  again();
}

function again() {
  clearTimeout(timer);
  if (!isPaused && !document.hidden) timer = setTimeout(poll, EVERY);
}

$("maintenance").addEventListener("click", async () => {
  const on = !figures.maintenance;
  if (!confirm(on ? words.turnOn : words.turnOff)) return;
  try {
    await call("/api/operator/maintenance", { method: "POST", body: { on } });
    await poll();
  } catch (error) {
    $("error-text").textContent = explain(error, words);
    $("error").hidden = false;
  }
});
$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  render();
  if (isPaused) clearTimeout(timer);
  else poll();
});
$("retry").addEventListener("click", async () => {
  if (!refused || await ask(refused)) poll();
});
$("language").addEventListener("click", () => {
  lang = lang === "zh" ? "en" : "zh";
  words = TEXT[lang];
  try { localStorage.setItem(LANGUAGE, lang); } catch { /* it holds until the page is left */ }
  render();
});
// A page that nobody sees asks nothing.
document.addEventListener("visibilitychange", () => { if (!document.hidden && !isPaused) poll(); });

render();
show($("status"), words.loading);
poll();
