// What this browser keeps of the lesson, so that a reload or a lost connection loses nothing, and the news of its changes.

import { TEXT } from "./text.js";

const KEY = "lyceum.lesson";

// `running` is the answer under way: {place, explanation}. It outlives the page, as the stream does.
const NEW = { session: null, topic: "", turns: [], gaps: null, draft: "", running: null };
export const state = { ...NEW, provider: null, lang: null, tone: "", tab: "teach", ...load() };
state.lang ??= navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";

export const words = () => TEXT[state.lang];

function load() {
  try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; }
}

export function save() {
  // A full or forbidden store must not stop the lesson.
  try { localStorage.setItem(KEY, JSON.stringify(state)); } catch { /* the page works on, without a memory */ }
}

// Another conversation, or a new one.
export function begin(conversation = {}) {
  Object.assign(state, NEW, { turns: [] }, conversation);
  save();
  tell("conversation");
}

// News: "language", "conversation" (another one), "taught" (a turn more), "known" (another map), "go" (to a tab).
const news = new EventTarget();
export const tell = (name, detail) => news.dispatchEvent(new CustomEvent(name, { detail }));
export const when = (names, then) => { for (const name of names.split(" ")) news.addEventListener(name, (event) => then(event.detail)); };
