// The admin token. It comes from the fragment of the link, which no server sees, or from the form, and is kept for all
// tabs of this browser until somebody signs out or the page was not used for IDLE_MS (docs/decisions/0048).

import { read, remove, write } from "./storage.js";

const NAME = "frontispiece-session";
const IDLE_MS = 12 * 3600 * 1000;
const RENEW_MS = 60 * 1000;

let unkept = null; // a token that is tried, or that the browser does not keep
let trial = false;

/** The token, or null. */
export function token() {
  if (unkept) return unkept;
  const kept = read("localStorage", NAME);
  const age = Date.now() - kept?.used;
  if (!(age < IDLE_MS)) return null;
  if (age > RENEW_MS) keep(kept.token);
  return kept.token;
}

/** The token of the link that opened the page, or null. It is taken out of the address. */
export function tokenOfLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  return given;
}

/** Use a token in this tab, until `accept` or `refuse`. */
export function attempt(value) {
  trial = true;
  unkept = value;
}

/** Keep the token that was tried, for all tabs. */
export function accept() {
  trial = false;
  if (keep(unkept)) unkept = null;
}

/** Forget the token that was tried. The one before is used again. */
export function refuse() {
  trial = false;
  unkept = null;
}

/** Whether the token in use is one that is tried. */
export function isTried() {
  return trial;
}

/** Forget the token in all tabs. */
export function signOut() {
  trial = false;
  unkept = null;
  remove("localStorage", NAME);
}

/** Call `handler` when another tab signs in or out. */
export function onChange(handler) {
  addEventListener("storage", ({ key }) => {
    if (key === NAME || key === null) handler();
  });
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) handler(); // the page was kept for "Back" and heard nothing meanwhile
  });
}

function keep(value) {
  return write("localStorage", NAME, { token: value, used: Date.now() });
}
