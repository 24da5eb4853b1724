// The admin token. It comes from the fragment of the link, which no server sees, and is kept until the tab closes.

const NAME = "frontispiece-token";

/** The token of this tab, or null. A token in the address is moved to the storage of the tab. */
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
