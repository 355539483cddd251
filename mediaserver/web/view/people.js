// Why: people should see who can be watched without knowing names: room by room, one press for each, and one for all of a
// room. What stays the same keeps its element, so that focus and selection survive the next answer.

import { element } from "./dom.js";
import { codecName } from "./figures.js";
import { runsBackwards } from "./notices.js";

const SHOWN = 100; // participants in the list at most

export class People {
  #shown = "";

  /**
   * `context()` gives {room}; `watch({room, identity})` is called when someone is chosen; `everyone(room)` when all of a
   * room are; `stateOf(room, identity)` is "own", "watched" or "", and `watchesAll(room)` whether all are watched.
   */
  constructor(target, { context, watch, everyone, stateOf, watchesAll }) {
    Object.assign(this, { target, context, watch, everyone, stateOf, watchesAll });
  }

  show(rooms) {
    const own = this.context().room;
    const sorted = [...rooms].sort((a, b) => (b.name === own) - (a.name === own) || a.name.localeCompare(b.name));
    const groups = [];
    let left = SHOWN;
    for (const { name, participants } of sorted) {
      const people = [...participants].sort((a, b) => a.identity.localeCompare(b.identity)).slice(0, left);
      left -= people.length;
      if (people.length) groups.push({ name, all: this.watchesAll(name), people: people.map((one) => ({ ...summary(one), state: this.stateOf(name, one.identity) })) });
    }
    const all = rooms.reduce((total, { participants }) => total + participants.length, 0);
    this.#render(groups, all - (SHOWN - left));
  }

  note(text) {
    if (this.#shown === text) return;
    this.#shown = text;
    this.target.replaceChildren(element("p", { className: "note", textContent: text }));
  }

  #render(groups, more) {
    if (!groups.length) return this.note("Nobody is on air.");
    const key = JSON.stringify([groups, more]);
    if (key === this.#shown) return; // keeps focus and selection while nothing changes
    this.#shown = key;
    const focused = document.activeElement?.dataset?.key;
    this.target.replaceChildren(...groups.map((group) => this.#group(group)));
    if (more > 0) this.target.append(element("p", { className: "note", textContent: `and ${more} more` }));
    if (focused) [...this.target.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  #group({ name, all, people }) {
    const title = element("h3", {}, element("small", { textContent: "Room" }), name);
    const button = element("button", { type: "button", textContent: all ? "Stop all" : "Watch everyone", "aria-label": all ? `Stop watching everyone in ${name}` : `Watch everyone in ${name}`, onclick: () => this.everyone(name) });
    button.dataset.key = JSON.stringify([name]);
    button.hidden = !all && people.every(({ state }) => state === "own"); // nobody else is there
    const rows = element("ul", {}, ...people.map((one) => this.#row(name, one)));
    return element("section", { className: "group", "aria-label": `Room ${name}` }, element("div", { className: "group-title" }, title, button), rows);
  }

  #row(room, { identity, text, warning, state }) {
    const who = element("span", { className: "who" }, element("strong", { textContent: state === "own" ? `${identity} (you)` : identity }), element("small", { textContent: text }));
    if (warning) who.append(element("small", { className: "warning", textContent: warning }));
    const label = state === "watched" ? "Show" : "Watch";
    const button = element("button", { type: "button", textContent: label, "aria-label": `${label} ${identity}`, onclick: () => this.watch({ room, identity }) });
    button.dataset.key = JSON.stringify([room, identity]); // names may hold any sign
    return element("li", { className: "person" }, element("span", { className: "initial", textContent: [...identity][0]?.toUpperCase() ?? "?", "aria-hidden": "true" }), who, button);
  }
}

/** {identity, text: "720p VP8 · Opus · 3 watching", warning} */
function summary({ identity, tracks, viewers, ...rest }) {
  const sorted = [...tracks].sort((a, b) => b.kind.localeCompare(a.kind)); // video before audio
  const parts = sorted.map(({ kind, codec, layers = [] }) => {
    const height = Math.max(0, ...layers.filter(({ active }) => active !== false).map(({ height }) => height ?? 0));
    return [kind === "video" && height > 0 && `${height}p`, codec ? codecName(codec) : kind].filter(Boolean).join(" ");
  });
  if (viewers) parts.push(`${viewers} watching`);
  return { identity, text: parts.join(" · "), warning: runsBackwards({ tracks, ...rest }) ? "B-frames: most of the pictures are lost" : "" };
}
