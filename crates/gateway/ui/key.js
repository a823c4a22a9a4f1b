// The API key, where the server wants one: asked for once, kept for this tab only.

import { button, element } from "./dom.js";

const NAME = "lyceum.key";
const TEXT = {
  en: { title: "This server needs an API key", label: "API key", hint: "It is kept in this tab and forgotten when the tab is closed.", wrong: "The server did not accept that key.", use: "Use this key", cancel: "Cancel" },
  zh: { title: "此服务器需要 API 密钥", label: "API 密钥", hint: "密钥只保存在这个标签页中，关闭后即忘记。", wrong: "服务器没有接受这个密钥。", use: "使用此密钥", cancel: "取消" },
};

let asking = null;
let forgotten = null;

export function key() {
  try { return sessionStorage.getItem(NAME) ?? forgotten; } catch { return forgotten; }
}

function keep(value) {
  forgotten = value;
  try { sessionStorage.setItem(NAME, value); } catch { /* it holds until the page is left */ }
}

// True when there is a key that `refused` is not; false when nobody gives one. Those who ask at the same time share one dialog.
export function ask(refused) {
  if (key() && key() !== refused) return Promise.resolve(true);
  asking ??= open(Boolean(refused)).finally(() => { asking = null; });
  return asking;
}

function open(isWrong) {
  const words = TEXT[document.documentElement.lang.startsWith("zh") ? "zh" : "en"];
  const input = element("input");
  Object.assign(input, { id: "api-key", type: "password", required: true, autocomplete: "off" });
  const label = element("label", "", words.label);
  label.htmlFor = "api-key";
  const title = element("h2", "", words.title);
  title.id = "key-title";
  const dialog = element("dialog", "key");
  dialog.setAttribute("aria-labelledby", "key-title");
  const send = element("button", "", words.use);
  const form = element("form", "", title, isWrong ? element("p", "wrong", words.wrong) : null, label, input, element("p", "hint", words.hint),
    element("div", "actions", button("quiet", words.cancel, () => dialog.close()), send));
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    let given = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      given = Boolean(input.value.trim());
      if (given) keep(input.value.trim());
      dialog.close();
    });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(given); });
    dialog.showModal();
  });
}
