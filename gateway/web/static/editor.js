// The editors' desk: signs in, and joins the form, the easel and the list of tasks.

import { call, onRefused } from "./api.js";
import * as compose from "./compose.js";
import { byId } from "./dom.js";
import * as easel from "./easel.js";
import { clearErrors, showError } from "./forms.js";
import { signIn, signOut, token } from "./session.js";
import * as shelf from "./shelf.js";

const CAPABILITIES_MS = 15000;

const tokenForm = byId("token-form");
let started = false;

function showSignIn() {
  shelf.stop();
  byId("desk").hidden = true;
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  byId("load").textContent = "";
  byId("token").focus();
}

function choose(task) {
  easel.show(task);
  shelf.update(task);
  byId("easel").scrollIntoView({ block: "nearest" });
  byId("easel").focus({ preventScroll: true });
}

async function showDesk() {
  byId("sign-in").hidden = true;
  byId("desk").hidden = false;
  byId("sign-out").hidden = false;
  if (!started) {
    started = true;
    easel.start((task) => {
      shelf.update(task);
      refreshLoad();
    }, compose.vary);
    compose.start(
      (task) => {
        easel.show(task);
        shelf.update(task);
        shelf.refresh();
        byId("easel").scrollIntoView({ block: "nearest" }); // on a phone it is below the form
      },
      (image) => {
        easel.showPicture(image);
        shelf.draw(); // no task is looked at any more
        byId("easel").scrollIntoView({ block: "nearest" });
        byId("easel").focus({ preventScroll: true });
      },
    );
    await Promise.all([shelf.start(choose), firstCapabilities()]);
  } else {
    await Promise.all([shelf.refresh(), firstCapabilities()]);
  }
}

async function firstCapabilities() {
  const found = await refreshLoad();
  if (found) {
    compose.setCapabilities(found);
    setInterval(() => {
      if (!document.hidden && token()) refreshLoad();
    }, CAPABILITIES_MS);
  } else if (token()) {
    setTimeout(firstCapabilities, 3000); // the generator may still be loading its model
  }
}

/** Show how busy the generator is; its capabilities, or null when it does not answer. */
async function refreshLoad() {
  const place = byId("load");
  try {
    const found = await call("GET", "/api/capabilities");
    const busy = found.slot_count - found.free_slot_count;
    place.textContent = busy ? `${found.device}: ${busy} of ${found.slot_count} busy` : `${found.device}: free`;
    return found;
  } catch {
    place.textContent = token() ? "the generator does not answer" : "";
    return null;
  }
}

tokenForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearErrors(tokenForm);
  const given = byId("token").value.trim();
  signIn(given);
  try {
    await call("GET", "/api/tasks?page_size=1");
  } catch (error) {
    if (error.status === 401 || !given) {
      signOut();
      showError(tokenForm, { fields: [{ field: "token", message: "This token is not accepted." }] });
      return;
    }
  }
  byId("token").value = "";
  showDesk();
});

byId("sign-out").addEventListener("click", () => {
  signOut();
  location.reload();
});

onRefused(() => {
  signOut();
  showSignIn();
});

if (token()) showDesk();
else showSignIn();
addEventListener("hashchange", () => location.reload());
