// The admin token: taken from the link's fragment, which no server sees, and kept until the tab closes.

const NAME = "frontispiece-token";

/** The token of this tab, or null. A token in the address moves from there into the tab's storage. */
export function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(NAME, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(NAME);
}

/** Keep a token. */
export function signIn(value) {
  sessionStorage.setItem(NAME, value);
}

/** Forget the token. */
export function signOut() {
  sessionStorage.removeItem(NAME);
}
