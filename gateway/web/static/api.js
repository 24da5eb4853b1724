// Calls of the REST interface with the token, and the events of a task.

import { token } from "./session.js";

/** The error in a problem document. */
export class ApiError extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "Something went wrong.");
    this.status = problem.status;
    this.code = problem.code;
    this.fields = problem.errors || [];
    this.requestId = problem.request_id;
  }
}

let whenRefused = () => {};

/** Call `handler` when the token is not accepted. */
export function onRefused(handler) {
  whenRefused = handler;
}

function headers(extra = {}) {
  return { Authorization: `Bearer ${token()}`, Accept: "application/json", ...extra };
}

async function failure(response) {
  let problem;
  try {
    problem = await response.json();
  } catch {
    problem = { status: response.status, title: response.statusText };
  }
  if (response.status === 401) whenRefused();
  return new ApiError(problem);
}

/** The JSON of a response. Throws ApiError; its status is 0 when the gateway cannot be reached. */
export async function call(method, path, body, extra) {
  const options = { method, headers: headers(extra) };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  return send(path, options);
}

/**
 * Headers for a call that may be repeated: `keyed(body)` has the same key while the body is the same, so that a call whose
 * response was lost has its effect only once.
 */
export function repeatable() {
  let last;
  let key;
  return (body) => {
    const text = JSON.stringify(body);
    if (text !== last) key = crypto.randomUUID();
    last = text;
    return { "Idempotency-Key": key };
  };
}

/** Upload an image (a File). Returns the stored image. Throws ApiError. */
export async function upload(file) {
  const extra = { "Content-Type": file.type, "Idempotency-Key": crypto.randomUUID() };
  return send("/api/media/images", { method: "POST", headers: headers(extra), body: file });
}

/** Whether all services are ready: `{ready, failing, message}`. Throws ApiError when the gateway cannot be reached. */
export async function readiness() {
  try {
    return await (await fetch("/readyz")).json(); // with status 503 too
  } catch {
    throw unreachable();
  }
}

function unreachable() {
  return new ApiError({ status: 0, detail: "The gateway cannot be reached. Is it running?" });
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw await failure(response);
  return response.status === 204 ? null : response.json();
}

/**
 * Follow a task until its terminal event. `onEvent(name, data)` gets each event. After a broken connection it resumes after
 * the last stored event, so none is missed or repeated. `signal` ends it early. (EventSource cannot send the token.)
 */
export async function follow(taskId, after, onEvent, signal) {
  let last = after;
  let pause = 500;
  while (!signal.aborted) {
    try {
      const response = await fetch(`/api/tasks/${taskId}/events`, {
        headers: headers({ Accept: "text/event-stream", "Last-Event-ID": String(last) }),
        signal,
      });
      if (!response.ok) {
        const error = await failure(response);
        if (response.status < 500 && response.status !== 429) throw error;
      } else {
        for await (const event of frames(response.body)) {
          pause = 500;
          if (event.id) last = Number(event.id);
          const data = JSON.parse(event.data);
          onEvent(event.name, data);
          if (data.terminal) return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, 5000);
  }
}

/** The events of a text/event-stream, without comments and unused fields. */
async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
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
