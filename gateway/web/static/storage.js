// What the browser keeps for this page. It may keep nothing (storage switched off or full): reads are then null.

/** The names that begin with `prefix`. `store` is "localStorage" (all tabs) or "sessionStorage" (this tab). */
export function names(store, prefix) {
  try {
    return Object.keys(window[store]).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

/** The JSON value of a name, or null. */
export function read(store, name) {
  try {
    return JSON.parse(window[store].getItem(name));
  } catch {
    return null;
  }
}

/** Keep a value as JSON. Returns whether it is kept. */
export function write(store, name, value) {
  try {
    window[store].setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Forget a name. */
export function remove(store, name) {
  try {
    window[store].removeItem(name);
  } catch {
    // Nothing was kept.
  }
}
