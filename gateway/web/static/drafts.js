// Typed text that the server does not have yet. It survives another card, a reload, a crash and a closed tab, because the
// browser keeps it. When the browser cannot keep it, leaving the page asks first.

import { names, read, remove, write } from "./storage.js";

const PREFIX = "frontispiece-draft:";
const AGE_MS = 30 * 24 * 3600 * 1000;
const MAX_CHARACTERS = 2_000_000; // of all drafts; browsers keep about five million for a site

const unkept = new Map();

/** The text under a name. All tabs have the same one; with `perTab`, each has its own and a new tab begins with the last. */
export function draft(name, { perTab = false } = {}) {
  const id = PREFIX + name;
  return {
    /** Keep a value. Returns whether it survives a closed tab. */
    keep(value) {
      const record = { time: Date.now(), value };
      const whole = fits(id, record) && write("localStorage", id, record);
      if (perTab || !whole) write("sessionStorage", id, record);
      else remove("sessionStorage", id);
      if (whole) unkept.delete(id);
      else unkept.set(id, record);
      guard();
      return whole;
    },
    /** The value that was kept last, or null. */
    kept() {
      const own = unkept.get(id) ?? read("sessionStorage", id);
      return (own ?? read("localStorage", id))?.value ?? null;
    },
    /** Forget it. */
    drop() {
      unkept.delete(id);
      remove("localStorage", id);
      remove("sessionStorage", id);
      guard();
    },
  };
}

/** Forget what nobody has changed for a month. */
export function tidy() {
  for (const id of names("localStorage", PREFIX)) {
    if (!(Date.now() - read("localStorage", id)?.time < AGE_MS)) remove("localStorage", id);
  }
}

function fits(id, record) {
  const others = names("localStorage", PREFIX).filter((one) => one !== id);
  const characters = others.reduce((sum, one) => sum + localStorage.getItem(one).length, 0);
  return characters + JSON.stringify(record).length <= MAX_CHARACTERS;
}

// A listener for beforeunload keeps a page out of the browser's cache for "Back", so there is none without need.
function guard() {
  if (unkept.size) addEventListener("beforeunload", ask);
  else removeEventListener("beforeunload", ask);
}

function ask(event) {
  event.preventDefault();
}
