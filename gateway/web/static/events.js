// The events of a task. (EventSource cannot send the token.)

import { ApiError, failure, headers, unreachable } from "./api.js";
import { path } from "./site.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const SILENCE_MS = 60_000; // the gateway sends a comment every 15 s; a connection without any is dead

/** Waits between tries, each twice as long as the one before. A try is made at once when the network is back or the page
 * is looked at again. */
export class Pauses {
  constructor() {
    this.reset();
  }

  reset() {
    this.ms = FIRST_PAUSE_MS;
  }

  /** Wait; ends early when `signal` is aborted. */
  async wait(signal) {
    const done = new AbortController();
    const { ms } = this;
    this.ms = Math.min(2 * ms, LONGEST_PAUSE_MS);
    await new Promise((resolve) => {
      const options = { signal: done.signal };
      setTimeout(resolve, ms);
      signal.addEventListener("abort", resolve, options);
      addEventListener("online", resolve, options);
      document.addEventListener("visibilitychange", () => document.hidden || resolve(), options);
    });
    done.abort();
  }
}

/**
 * Follow a task until its terminal event. `onEvent(name, data)` gets each event. After a broken connection it resumes after
 * the last stored event, so none is missed or repeated; `onBreak(error)` gets the reason, and null when it is mended.
 * `signal` ends it early. Throws ApiError for an error that does not pass.
 */
export async function follow(taskId, onEvent, onBreak, signal) {
  const pauses = new Pauses();
  let last = 0;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop);
    try {
      const response = await open(taskId, last, attempt);
      if (response.status === 204) return; // at rest: no event follows
      onBreak(null);
      for await (const event of frames(response.body, stop)) {
        pauses.reset();
        if (event.id) last = Number(event.id);
        const data = JSON.parse(event.data);
        onEvent(event.name, data);
        if (data.terminal) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      const known = error instanceof ApiError ? error : unreachable();
      if (!known.passes) throw known;
      onBreak(known);
    } finally {
      signal.removeEventListener("abort", stop);
    }
    await pauses.wait(signal);
  }
}

async function open(taskId, last, attempt) {
  const timer = setTimeout(() => attempt.abort(), SILENCE_MS);
  try {
    const sent = headers({ Accept: "text/event-stream", "Last-Event-ID": String(last) });
    const response = await fetch(path(`api/tasks/${taskId}/events`), { headers: sent, signal: attempt.signal });
    if (!response.ok) throw await failure(response, sent);
    return response;
  } finally {
    clearTimeout(timer);
  }
}

/** The events of a text/event-stream, without comments and unused fields. `onSilence` is called when nothing comes. */
async function* frames(body, onSilence) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const timer = setTimeout(onSilence, SILENCE_MS);
      const { value, done } = await reader.read().finally(() => clearTimeout(timer));
      if (done) return;
      buffer += value;
      let end;
      while ((end = buffer.indexOf("\n\n")) >= 0) {
        const event = parse(buffer.slice(0, end));
        buffer = buffer.slice(end + 2);
        if (event.data) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const event = { id: "", name: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, field, value] = /^(\w*): ?(.*)$/.exec(line) || [];
    if (field === "id") event.id = value;
    else if (field === "event") event.name = value;
    else if (field === "data") event.data += value;
  }
  return event;
}
