// Tabs as the ARIA practices have them: one stop for Tab, arrows between them, Home and End.

import { $ } from "./dom.js";

// Each tab's id is `tab-NAME`, its panel's `panel-NAME`. Calls shown(name) after a change; returns the function that shows one.
export function tabs(list, shown) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const nameOf = (tab) => tab.id.slice("tab-".length);
  function show(name, { focus = false } = {}) {
    const chosen = all.find((tab) => nameOf(tab) === name) ?? all[0];
    for (const tab of all) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      $(`panel-${nameOf(tab)}`).hidden = tab !== chosen;
    }
    chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focus) chosen.focus();
    shown(nameOf(chosen));
  }
  for (const tab of all) tab.addEventListener("click", () => show(nameOf(tab)));
  list.addEventListener("keydown", (event) => {
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    show(nameOf(all[(to + all.length) % all.length]), { focus: true });
  });
  return show;
}
