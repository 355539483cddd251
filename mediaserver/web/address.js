// Why: what the page's address asks for, and the addresses that the page gives away, are one agreement (app.js tells it
// in full). Read and made in one place, they can't part.

export const query = new URLSearchParams(location.search);

/** True for a page that was opened to watch: it has no forms, until its reader wants to join in. */
export const toWatch = (query.has("watch") || query.has("room")) && !query.has("publish") && !query.has("identity");

/** True when whoever made the link has put a token into it. */
export const bringsToken = query.has("token");

/** A switch of the address: absent means `fallback`. */
export const on = (name, fallback) => (query.has(name) ? !["0", "false", "no", "off"].includes(query.get(name)) : fallback);

/** Who is to be watched by name; empty for all in the room. */
export const watched = query.getAll("watch").flatMap((names) => names.split(",")).map((name) => name.trim()).filter(Boolean);

/** The address of a page that watches one participant, or, without one, everybody in the room. */
export function watchLink(room, identity) {
  const named = new URLSearchParams(identity === undefined ? { room } : { room, watch: identity });
  return String(new URL(`./?${named}`, document.baseURI));
}

/** The token leaves the address bar, so that a copied address gives nobody a right; a reload finds it again. */
export function takeToken() {
  const KEY = "weir.token";
  const given = query.get("token");
  try {
    if (given === null) return sessionStorage.getItem(KEY) ?? "";
    sessionStorage.setItem(KEY, given);
    const clean = new URL(location.href);
    clean.searchParams.delete("token");
    history.replaceState(null, "", clean);
  } catch {
    // Storage may be forbidden: the token then lives as long as the page.
  }
  return given ?? "";
}
