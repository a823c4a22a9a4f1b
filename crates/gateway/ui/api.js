// Calls the server: with the key where it wants one, and with its words where it refuses.

import { ask, key } from "./key.js";

export class Refusal extends Error {
  constructor(detail, { retryable = true, request = null, status = null, body = null } = {}) {
    super(detail ?? "");
    Object.assign(this, { retryable, request, status, body });
  }
}

// The answer when it is good; throws a Refusal, or a TypeError when the server is not reached.
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (;;) {
    const used = key();
    const response = await fetch(path, {
      method,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(used ? { authorization: `Bearer ${used}` } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
    if (response.ok) return response;
    const told = await response.json().catch(() => null);
    if (response.status === 401 && await ask(used)) continue;
    const { status } = response;
    throw new Refusal(told?.detail, {
      retryable: status === 401 || status === 408 || status === 429 || status >= 500,
      request: response.headers.get("x-request-id"),
      status,
      body: told && { ...told, retryAfter: Number(response.headers.get("retry-after")) || null },
    });
  }
}

export const json = (path, options) => call(path, options).then((answer) => answer.json());

// What to tell people about a failure.
export function explain(error, words) {
  const text = error instanceof TypeError ? words.lost : error.message || (error.status && error.status !== 404 ? words.failed(error.status) : words.cut);
  return error.request ? `${text} (${error.request})` : text;
}
