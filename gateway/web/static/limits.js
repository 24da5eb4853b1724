// The limits of all fields, as GET /api/capabilities returns them. Until they are known, only the server checks.

let known = {};

/** Keep the `limits` of the capabilities. */
export function setLimits(limits) {
  known = limits;
}

/** The limits of a field of a kind of request, such as `limit("task", "prompt").max_length`. */
export function limit(kind, field) {
  return known[kind]?.[field] ?? {};
}
