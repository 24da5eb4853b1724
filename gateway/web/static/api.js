// Calls of the REST interface with the token.

import { token } from "./session.js";
import { path } from "./site.js";

const CALL_MS = 60_000;

/** The error in a problem document. */
export class ApiError extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "Something went wrong.");
    this.status = problem.status;
    this.code = problem.code;
    this.fields = problem.errors || [];
    this.requestId = problem.request_id;
  }

  /** Whether the same call may succeed later: the gateway cannot be reached, or is overloaded or incomplete. */
  get passes() {
    return this.status === 0 || this.status === 429 || (this.status >= 500 && this.status !== 501);
  }
}

let whenRefused = () => {};

/** Call `handler` when the token that is used now is not accepted. */
export function onRefused(handler) {
  whenRefused = handler;
}

/** The headers of a call: the token, and that JSON is wanted, unless `extra` says otherwise. */
export function headers(extra = {}) {
  return { Authorization: `Bearer ${token()}`, Accept: "application/json", ...extra };
}

/** The ApiError of a response that is no success. `sent`: the headers of the call. */
export async function failure(response, sent) {
  let problem;
  try {
    problem = await response.json();
  } catch {
    problem = { status: response.status, title: response.statusText };
  }
  if (response.status === 401 && sent.Authorization === headers().Authorization) whenRefused();
  return new ApiError(problem);
}

/** The JSON of a response. Throws ApiError; its status is 0 when the gateway cannot be reached. */
export async function call(method, relative, body, extra) {
  const options = { method, headers: headers(extra), signal: AbortSignal.timeout(CALL_MS) };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  return send(relative, options);
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
    if (text !== last) key = randomKey();
    last = text;
    return { "Idempotency-Key": key };
  };
}

/** A key that nobody else has. crypto.randomUUID exists only on https and on localhost. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Upload an image (a File). Returns the stored image. Throws ApiError. */
export async function upload(file) {
  const extra = { "Content-Type": file.type, "Idempotency-Key": randomKey() };
  return send("api/media/images", { method: "POST", headers: headers(extra), body: file });
}

/** Whether all services are ready: `{ready, failing, message}`. Throws ApiError when the gateway cannot be reached. */
export async function readiness() {
  try {
    const response = await fetch(path("readyz"), { signal: AbortSignal.timeout(CALL_MS) });
    return await response.json(); // with status 503 too
  } catch {
    throw unreachable();
  }
}

/** The ApiError for a gateway that does not answer. */
export function unreachable() {
  return new ApiError({ status: 0, detail: "The gateway cannot be reached. Is it running?" });
}

async function send(relative, options) {
  let response;
  try {
    response = await fetch(path(relative), options);
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw await failure(response, options.headers);
  try {
    return response.status === 204 ? null : await response.json();
  } catch {
    throw unreachable(); // the connection broke within the response
  }
}
