// Makes elements. Text enters the pages as text only, never as markup.

export const $ = (id) => document.getElementById(id);

// Children that are null or undefined are left out.
export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function button(className, label, onClick) {
  const node = element("button", className, label);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
}

// Fills what names its words: data-text is its text, data-label its accessible name.
export function translate(words) {
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = words[node.dataset.text];
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", words[node.dataset.label]);
}

// The documents' word for a language is its tag.
export function speak(lang) {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
}

// A message to who looks and to who listens; null takes it away.
export function tell(node, text) {
  node.hidden = !text;
  if (node.textContent !== (text ?? "")) node.textContent = text ?? "";
}

export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a");
  link.href = address;
  link.download = name;
  link.click();
  // The browser reads the address after this turn of the event loop.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
