// Renders /openapi.json. Text enters the page as text only, never as markup.
"use strict";

function element(name, content, className) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const part of [content].flat()) {
    if (part !== undefined && part !== null) node.append(part);
  }
  return node;
}

// Words in backticks are code.
function prose(text) {
  return (text ?? "").split("`").map((part, at) => (at % 2 ? element("code", part) : part));
}

function resolve(document_, schema) {
  const name = schema?.$ref?.split("/").pop();
  const whole = name ? { name, ...document_.components.schemas[name] } : { ...schema };
  for (const part of (whole.allOf ?? []).map((one) => resolve(document_, one))) {
    whole.properties = { ...whole.properties, ...part.properties };
    whole.required = [...(whole.required ?? []), ...(part.required ?? [])];
  }
  return whole;
}

function typeOf(document_, schema) {
  const whole = resolve(document_, schema);
  const options = whole.oneOf ?? whole.anyOf;
  if (options) return options.map((option) => typeOf(document_, option)).join(" or ");
  if (whole.enum) return whole.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [whole.type].flat();
  if (types.includes("array")) {
    return [`array of ${typeOf(document_, whole.items)}`, ...types.filter((t) => t !== "array")].join(" or ");
  }
  return whole.name ?? (types.filter(Boolean).join(" or ") || "any");
}

function limitsOf(schema) {
  const names = ["minLength", "maxLength", "minItems", "maxItems", "pattern"];
  return names.filter((name) => schema[name] !== undefined).map((name) => `${name} ${schema[name]}`).join(", ");
}

function fields(document_, schema) {
  const whole = resolve(document_, schema);
  if (!whole.properties) return element("p", typeOf(document_, schema));
  const head = element("tr", ["field", "type", ""].map((title) => element("th", title)));
  const rows = Object.entries(whole.properties).map(([name, property]) => {
    const resolved = resolve(document_, property);
    const needed = whole.required?.includes(name) ? "" : " (optional)";
    const words = [property.description ?? resolved.description, limitsOf(property)].filter(Boolean).join(" — ");
    return element("tr", [
      element("td", element("code", name)),
      element("td", typeOf(document_, property) + needed),
      element("td", prose(words)),
    ]);
  });
  return element("table", [head, ...rows]);
}

function contents(document_, content) {
  return Object.entries(content ?? {}).flatMap(([type, media]) => [
    element("p", element("code", type)),
    media.schema ? fields(document_, media.schema) : "",
  ]);
}

function example(method, path, operation) {
  const body = operation.requestBody?.content?.["application/json"]?.example;
  if (!body) return "";
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const stream = path.endsWith("/stream") ? " -N" : "";
  return element("pre", `curl${stream} ${location.origin}${path} \\\n  -H 'Content-Type: application/json' \\\n  -d '${json}'`);
}

function operationView(document_, method, path, operation) {
  const view = element("details", element("summary", [
    element("span", method.toUpperCase(), "method"),
    element("code", path),
    " ",
    ...prose(operation.summary),
  ]));
  if (operation.description) view.append(element("p", prose(operation.description)));
  view.append(example(method, path, operation));
  if (operation.requestBody) {
    view.append(element("h3", "Body"), ...contents(document_, operation.requestBody.content));
  }
  view.append(element("h3", "Answers"));
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    view.append(element("p", [element("strong", status), ` ${response.description ?? ""}`]));
    if (status.startsWith("2")) view.append(...contents(document_, response.content));
  }
  return view;
}

function shapes(document_) {
  return Object.entries(document_.components?.schemas ?? {}).map(([name, schema]) =>
    element("details", [
      element("summary", element("code", name)),
      element("p", prose(schema.description)),
      fields(document_, schema),
    ]),
  );
}

function show(document_) {
  document.getElementById("title").textContent = `${document_.info.title} ${document_.info.version}`;
  document.getElementById("description").textContent = document_.info.description ?? "";
  const groups = new Map((document_.tags ?? []).map((tag) => [tag.name, []]));
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = operation.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operationView(document_, method, path, operation));
    }
  }
  const main = document.getElementById("operations");
  main.replaceChildren();
  for (const [group, views] of groups) main.append(element("h2", group), ...views);
  main.append(element("h2", "shapes"), ...shapes(document_));
  main.setAttribute("aria-busy", "false");
}

fetch("/openapi.json")
  .then((response) => {
    if (!response.ok) throw new Error(`status ${response.status}`);
    return response.json();
  })
  .then(show)
  .catch((error) => {
    const text = `The description could not be loaded (${error.message}). Reload the page to try again.`;
    document.getElementById("operations").replaceChildren(element("p", text));
  });
