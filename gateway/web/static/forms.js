// Form fields with labels and errors. Each error is shown next to its field.

import { el } from "./dom.js";

/** A labelled control with room for an error. `value` is an element that shows the control's value. */
export function field(label, control, { hint = null, value = null, span = false } = {}) {
  const error = el("p", { class: "wrong", "data-error": control.name, hidden: true });
  return el(
    "div",
    { class: span ? "field span" : "field" },
    el("label", { for: control.id }, label, value),
    control,
    hint ? el("p", { class: "hint", id: `${control.id}-hint` }, hint) : null,
    error,
  );
}

/** Remove all errors of a form. */
export function clearErrors(form) {
  for (const place of form.querySelectorAll("[data-error]")) {
    place.hidden = true;
    place.textContent = "";
  }
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-describedby");
  }
}

/** Show an ApiError in a form: next to each field, else at the top. The first wrong field gets the focus. */
export function showError(form, error) {
  clearErrors(form);
  const general = [];
  let first = null;
  for (const { field: name, message } of error.fields || []) {
    const top = name.split(/[.[]/)[0];
    const place = form.querySelector(`[data-error="${CSS.escape(top)}"]`);
    const control = form.elements.namedItem(top);
    if (!top || !place) {
      general.push(name ? `${name}: ${message}` : message);
      continue;
    }
    place.textContent = place.textContent ? `${place.textContent}; ${message}` : message;
    place.hidden = false;
    if (control instanceof Element) {
      place.id ||= `${control.id}-error`;
      control.setAttribute("aria-invalid", "true");
      control.setAttribute("aria-describedby", place.id);
      first ||= control;
    }
    for (let around = place.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
  }
  if (!error.fields?.length) general.push(error.message);
  if (general.length) {
    const place = form.querySelector('[data-error=""]');
    place.textContent = general.join("; ");
    place.hidden = false;
  }
  first?.focus();
}

/** Disable the buttons of a form while `work` runs, and show its error. */
export async function submitting(form, work) {
  clearErrors(form);
  const buttons = [...form.querySelectorAll("button")].filter((button) => !button.disabled);
  for (const button of buttons) button.disabled = true;
  form.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    for (const button of buttons) button.disabled = false;
    showError(form, error);
    return null;
  } finally {
    for (const button of buttons) button.disabled = false;
    form.removeAttribute("aria-busy");
  }
}

/** The values of a form by name: a list for checkboxes, otherwise text. Files are left out. */
export function snapshot(form) {
  const values = {};
  for (const control of form.elements) {
    if (!control.name || control.type === "file") continue;
    if (control.type === "checkbox") (values[control.name] ??= []).push(...(control.checked ? [control.value] : []));
    else if (control.type !== "radio" || control.checked) values[control.name] = control.value;
  }
  return values;
}

/** Set the controls of a form to the values of a snapshot. Each control is told by an event that does not bubble. */
export function restore(form, values) {
  const known = [...form.elements].filter((control) => control.type !== "file" && control.name in values);
  const picks = (control) => ["radio", "checkbox"].includes(control.type) || control.tagName === "SELECT";
  for (const control of known.filter(picks)) {
    const value = values[control.name];
    if (control.type === "checkbox") control.checked = value.includes(control.value);
    else if (control.type === "radio") control.checked = value === control.value;
    else if ([...control.options].some((option) => option.value === value)) control.value = value;
    if (control.type !== "radio" || control.checked) control.dispatchEvent(new Event("change"));
  }
  for (const control of known.filter((one) => !picks(one))) { // after the picks, which may set them
    control.value = values[control.name];
    control.dispatchEvent(new Event("input"));
  }
}

/**
 * Keep what is typed in a form in `draft` (of drafts.js) at each change, and begin with what was kept. A form as it was made
 * keeps nothing.
 */
export function remember(form, draft) {
  const pristine = JSON.stringify(snapshot(form));
  const notice = el("p", { class: "hint", role: "status", hidden: true }, "The browser cannot keep this text. Send it before you leave the page.");
  form.append(notice);
  const values = draft.kept();
  if (values) restore(form, values);
  const keep = () => {
    const now = snapshot(form);
    if (JSON.stringify(now) === pristine) draft.drop();
    else notice.hidden = draft.keep(now);
  };
  for (const kind of ["input", "change"]) form.addEventListener(kind, keep);
}
