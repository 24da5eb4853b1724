// Addresses of this site. All are relative to the place where this script was loaded from, so that the page works under
// every host name, port and path.

const ROOT = new URL("../", import.meta.url).pathname; // the scripts are in {root}static/

const configured = document.querySelector('meta[name="base-url"]').content;

/** The path of a page or call, such as `path("api/tasks")`. */
export function path(relative) {
  return ROOT + relative;
}

/** The URL of an image `{url, key}`: on this site if the gateway serves it, otherwise as it is, on a CDN. */
export function source({ url, key }) {
  if (!url) return path(`media/${key.split("/").map(encodeURIComponent).join("/")}`);
  return url.startsWith(`${configured}/`) ? path(url.slice(configured.length + 1)) : url;
}
