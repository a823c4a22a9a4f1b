// Follows one of Lyceum's event streams to its end: waits in line for it, and goes on after a lost connection.
// Every event is told exactly once: its number is remembered, and the server is asked for those after it.

import { call, Refusal } from "./api.js";

const END = "[END_OF_STREAM]";
const TRIES = 10;
const LONGEST_PAUSE = 15_000;
// A place in line is kept for ten seconds after its time.
const LONGEST_WAIT = 5_000;

// `start` is {path, body} for a new stream, or {place} for one that is under way. Calls on.text(string), on.event(name, object)
// and, where they are given, on.place(address), on.waiting({position, seconds}), on.lost(times), on.found(). Resolves at the end.
export async function follow(start, on, signal) {
  const run = { place: start.place ?? null, last: 0, token: null, pause: 1_000, failures: 0 };
  // Who stops reading a durable stream has to say that nobody wants it any more.
  signal.addEventListener("abort", () => { if (run.place) call(run.place, { method: "DELETE" }).catch(() => {}); }, { once: true });
  for (;;) {
    try {
      const response = await open(start, run, on, signal);
      if (run.failures) on.found?.();
      if (await read(response, run, on)) return;
      throw new TypeError("the stream ended before its end mark");
    } catch (error) {
      const isLost = error instanceof TypeError && run.place && !signal.aborted;
      if (error.status === 404 && run.place) throw new Refusal(null, { status: 404, request: error.request });
      if (!isLost || run.failures >= TRIES) throw error instanceof TypeError && run.place ? new Refusal(null) : error;
      run.failures += 1;
      on.lost?.(run.failures);
      await pause(Math.min(run.pause * 2 ** (run.failures - 1), LONGEST_PAUSE), signal);
    }
  }
}

async function open(start, run, on, signal) {
  for (;;) {
    const headers = { accept: "text/event-stream" };
    if (run.token) headers["x-queue-token"] = run.token;
    if (run.place && run.last) headers["last-event-id"] = String(run.last);
    try {
      const response = run.place
        ? await call(run.place, { headers, signal })
        : await call(start.path, { method: "POST", headers, body: { ...start.body, durable: true }, signal });
      const place = run.place ?? response.headers.get("content-location");
      if (place && place !== run.place) on.place?.(place);
      run.place = place;
      run.token = null;
      return response;
    } catch (error) {
      const token = error.status === 503 ? error.body?.queue_token : null;
      if (!token) throw error;
      run.token = token;
      const seconds = Number(error.body.estimated_wait_seconds) || error.body.retryAfter || 1;
      on.waiting?.({ position: error.body.position, seconds: Math.ceil(seconds) });
      await pause(Math.min(Math.max(seconds * 1_000, 1_000), LONGEST_WAIT), signal);
    }
  }
}

// True at the end of the stream, false when it stops before.
async function read(response, run, on) {
  const request = response.headers.get("x-request-id");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return false;
    buffer += value;
    let end;
    while ((end = /\r?\n\r?\n/.exec(buffer))) {
      const block = buffer.slice(0, end.index);
      buffer = buffer.slice(end.index + end[0].length);
      if (dispatch(block, run, on, request)) return true;
    }
  }
}

function dispatch(block, run, on, request) {
  let name = "message";
  let id = null;
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") name = value;
    else if (field === "id") id = Number(value);
    else if (field === "retry") run.pause = Number(value) || run.pause;
    else if (field === "data") data.push(value);
  }
  if (!data.length || (id !== null && id <= run.last)) return false;
  run.last = id ?? run.last;
  run.failures = 0;
  const value = JSON.parse(data.join("\n"));
  if (name === "error") throw new Refusal(value.detail, { retryable: value.retryable !== false, request });
  if (value === END) return true;
  if (typeof value === "string") on.text(value);
  else on.event(name, value);
  return false;
}

// Ends early when the network comes back; throws when the signal is given.
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const end = (settle) => () => {
      clearTimeout(timer);
      removeEventListener("online", early);
      signal.removeEventListener("abort", stopped);
      settle();
    };
    const early = end(resolve);
    const stopped = end(() => reject(signal.reason));
    const timer = setTimeout(early, milliseconds);
    addEventListener("online", early);
    signal.addEventListener("abort", stopped);
    if (signal.aborted) stopped();
  });
}
