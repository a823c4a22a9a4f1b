// Reads Lyceum's event stream: JSON strings are text, named events carry objects.

const END = "[END_OF_STREAM]";

export class TeachError extends Error {
  constructor(detail, { retryable = true, request = null } = {}) {
    super(detail);
    this.retryable = retryable;
    this.request = request;
  }
}

// Calls on.text(string) and on.event(name, object); resolves at the end of the stream.
export async function teach(body, on, signal) {
  const response = await fetch("/chat/stream", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  });
  const request = response.headers.get("x-request-id");
  if (!response.ok) {
    const detail = await response.json().then((it) => it.detail).catch(() => null);
    const retryable = response.status === 408 || response.status === 429 || response.status >= 500;
    throw Object.assign(new TeachError(detail, { retryable, request }), { status: response.status });
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new TeachError(null, { request });
    buffer += value;
    let end;
    while ((end = buffer.search(/\r?\n\r?\n/)) >= 0) {
      const block = buffer.slice(0, end);
      buffer = buffer.slice(end).replace(/^\r?\n\r?\n/, "");
      if (dispatch(block, on, request)) return;
    }
  }
}

// True at the end of the stream.
function dispatch(block, on, request) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (!data.length) return false;
  const value = JSON.parse(data.join("\n"));
  if (name === "error") throw new TeachError(value.detail, { retryable: value.retryable !== false, request });
  if (typeof value === "string") {
    if (value === END) return true;
    on.text(value);
  } else {
    on.event(name, value);
  }
  return false;
}
