// The editor page: signs in, and connects the form, the view of a task and the list of tasks.

import { call, onRefused, readiness } from "./api.js";
import { byId } from "./dom.js";
import { tidy } from "./drafts.js";
import { clearErrors, showError } from "./forms.js";
import * as history from "./history.js";
import { setLimits } from "./limits.js";
import * as promptForm from "./prompt_form.js";
import * as session from "./session.js";
import { token } from "./session.js";
import * as taskView from "./task_view.js";

const LOAD_MS = 15000;
const LOADING_MS = 1000;

const tokenForm = byId("token-form");
let started = false;

function showSignIn() {
  history.stop();
  byId("editor").hidden = true;
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  byId("load").textContent = "";
  byId("token").focus();
}

function choose(task) {
  taskView.show(task);
  history.update(task);
  byId("task-view").scrollIntoView({ block: "nearest" });
  byId("task-view").focus({ preventScroll: true });
}

async function showEditor() {
  byId("sign-in").hidden = true;
  byId("editor").hidden = false;
  byId("sign-out").hidden = false;
  if (started) {
    await Promise.all([history.refresh(), showLoad()]);
    return;
  }
  started = true;
  tidy();
  taskView.start((task) => {
    history.update(task);
    showLoad();
  }, promptForm.vary);
  promptForm.start(
    (task) => {
      taskView.show(task);
      history.update(task);
      history.refresh();
      byId("task-view").scrollIntoView({ block: "nearest" }); // on a phone it is below the form
    },
    (image) => {
      taskView.showImage(image);
      history.draw(); // no task is selected any more
      byId("task-view").scrollIntoView({ block: "nearest" });
      byId("task-view").focus({ preventScroll: true });
    },
  );
  await Promise.all([history.start(choose), firstCapabilities()]);
}

/** Wait for the capabilities of the generator, which has none while it loads its model, and set up the form. */
async function firstCapabilities() {
  const found = await showLoad();
  if (found) {
    setLimits(found.limits);
    promptForm.setCapabilities(found);
    setInterval(() => {
      if (!document.hidden && token()) showLoad();
    }, LOAD_MS);
  } else if (token()) {
    setTimeout(firstCapabilities, LOADING_MS);
  }
}

/** Show how busy the generator is, or why it is not ready. Returns its capabilities, or null. */
async function showLoad() {
  try {
    const { failing, message } = await readiness();
    if (!failing.generator) {
      const found = await call("GET", "api/capabilities");
      const busy = found.slot_count - found.free_slot_count;
      state(busy ? `${found.device}: ${busy} of ${found.slot_count} busy` : `${found.device}: free`, false);
      return found;
    }
    state(message, true);
  } catch (error) {
    state(token() ? error.message : "", Boolean(token()));
  }
  return null;
}

function state(text, waiting) {
  byId("load").textContent = text;
  byId("not-ready").hidden = !waiting;
  byId("not-ready-reason").textContent = waiting ? `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}` : "";
}

/** Use a token if it is accepted, or if nobody can tell. Returns whether it is used. */
async function signIn(given) {
  session.attempt(given);
  try {
    await call("GET", "api/tasks?page_size=1");
  } catch (error) {
    if (error.status === 401 || !given) {
      session.refuse();
      return false;
    }
  }
  session.accept();
  return true;
}

tokenForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearErrors(tokenForm);
  if (!(await signIn(byId("token").value.trim()))) {
    showError(tokenForm, { fields: [{ field: "token", message: "This token is not accepted." }] });
    return;
  }
  byId("token").value = "";
  showEditor();
});

byId("sign-out").addEventListener("click", () => {
  session.signOut();
  location.reload();
});

onRefused(() => {
  if (session.isTried()) return; // signIn tells it, and the token before is as good as it was
  session.signOut();
  showSignIn();
});

session.onChange(() => {
  if (token() && byId("editor").hidden) showEditor();
  else if (!token() && !byId("editor").hidden) location.reload();
});

/** Try the token of a link while the page is set up. If it is refused, the session before goes on. */
async function signInByLink(given) {
  if (await signIn(given)) return;
  if (token()) location.reload();
  else showSignIn();
}

const given = session.tokenOfLink();
if (given) signInByLink(given);
if (token()) showEditor();
else showSignIn();
addEventListener("hashchange", () => location.reload());
