// Why: people should see who can be watched without knowing names. The list is asked for every 2 s while the page is
// seen; a server that keeps it to itself (401, 403) leaves typed names, and is asked less often.

import { codecName } from "./figures.js";
import { problemFrom } from "./problem.js";
import { element } from "./dom.js";

const POLL = 2_000; // ms
const POLL_REFUSED = 15_000; // ms
const SHOWN = 100; // participants in the list at most

export class RoomList {
  #timer = 0;
  #shown = "";

  /** `context()` gives {room, token}; `watch({room, identity})` is called when someone is chosen. */
  constructor(target, { context, watch }) {
    this.target = target;
    this.context = context;
    this.watch = watch;
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.poll());
  }

  /** Ask now, and again later. */
  async poll() {
    clearTimeout(this.#timer);
    let wait = POLL;
    if (document.visibilityState === "visible") {
      try {
        this.#show(await this.#fetch());
      } catch (error) {
        if (error.status === 401 || error.status === 403) wait = POLL_REFUSED;
        this.#note(error.status === 401 || error.status === 403 ? "This server does not list its rooms. Type a name below." : "The list is not available just now.");
      }
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.poll(), wait);
  }

  async #fetch() {
    const { token } = this.context();
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch("api/rooms", { headers, cache: "no-store" });
    if (!response.ok) throw await problemFrom(response);
    return (await response.json()).rooms ?? [];
  }

  #show(rooms) {
    const { room } = this.context();
    const key = JSON.stringify([room, rooms]);
    if (key === this.#shown) return; // keeps focus and selection while nothing changes
    const entries = rooms.flatMap(({ name, participants = [] }) =>
      participants.filter(({ tracks = [] }) => tracks.length).map((participant) => ({ room: name, ...participant })));
    entries.sort((a, b) => (b.room === room) - (a.room === room) || a.room.localeCompare(b.room) || a.identity.localeCompare(b.identity));
    if (!entries.length) return this.#note("Nobody is on air.", key);
    const focused = document.activeElement?.dataset?.key;
    this.target.replaceChildren(...entries.slice(0, SHOWN).map((entry) => this.#row(entry, room)));
    if (entries.length > SHOWN) this.target.append(element("p", { className: "note", textContent: `and ${entries.length - SHOWN} more` }));
    if (focused) [...this.target.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
    this.#shown = key;
  }

  #row({ room, identity, tracks, viewers }, own) {
    const name = element("span", { className: "who" }, element("strong", { textContent: identity }), element("small", { textContent: summary(tracks, viewers, room === own ? "" : room) }));
    const button = element("button", { type: "button", textContent: "Watch", "aria-label": `Watch ${identity}`, onclick: () => this.watch({ room, identity }) });
    button.dataset.key = `${room}/${identity}`;
    return element("div", { className: "person" }, element("span", { className: "initial", textContent: [...identity][0]?.toUpperCase() ?? "?", "aria-hidden": "true" }), name, button);
  }

  #note(text, key = text) {
    if (this.#shown === key) return;
    this.#shown = key;
    this.target.replaceChildren(element("p", { className: "note", textContent: text }));
  }
}

/** "720p VP8 · Opus · 3 watching" */
function summary(tracks, viewers, room) {
  const sorted = [...tracks].sort((a, b) => b.kind.localeCompare(a.kind)); // video before audio
  const parts = sorted.map(({ kind, codec, layers = [] }) => {
    const height = Math.max(0, ...layers.filter(({ active }) => active !== false).map(({ height }) => height ?? 0));
    return [kind === "video" && height > 0 && `${height}p`, codec ? codecName(codec) : kind].filter(Boolean).join(" ");
  });
  if (room) parts.unshift(`room ${room}`);
  if (viewers) parts.push(`${viewers} watching`);
  return parts.join(" · ");
}
