// The learner's page: its parts, its language, its tabs.

import { $, speak, translate } from "./dom.js";
import { isBusy, start } from "./lesson.js";
import { opened } from "./study.js";
import { begin, save, state, tell, when, words } from "./state.js";
import { tabs } from "./tabs.js";
import "./panel.js";
import "./sessions.js";

function render() {
  speak(state.lang);
  translate(words());
  $("language").textContent = state.lang === "zh" ? "English" : "中文";
  $("language").lang = state.lang === "zh" ? "en" : "zh";
}

const show = tabs($("tabs"), (name) => {
  state.tab = name;
  save();
  // What is hidden has no width to be drawn for.
  if (name === "map") tell("known");
  opened(name);
});

// First of all that hear of it: what follows puts its own words over these.
render();
when("go", (name) => show(name, { focus: true }));
$("language").addEventListener("click", () => {
  state.lang = state.lang === "zh" ? "en" : "zh";
  save();
  render();
  tell("language");
});
$("fresh").addEventListener("click", () => {
  if (isBusy() || (state.turns.length && !confirm(words().confirm))) return;
  begin();
  show("teach");
  $("topic").focus();
});

tell("conversation");
show(state.tab);
start();
