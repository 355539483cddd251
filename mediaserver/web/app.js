// Why: ties the page together: the forms, the list of people, the tiles, and the address that can start it all.
//
//   /                                                             the whole page
//   /?room=demo&identity=alice&publish=camera&codec=vp8&simulcast=1&resolution=720&sound=1&token=…
//   /?room=demo&watch=alice,bob&layer=h&lag=1000                  to watch alice and bob: no forms
//   /?room=demo                                                   to watch everybody in the room, who comes later too
//
// `publish` is camera, screen or microphone: it sets up the form, and the reader's press on its button starts it. Anybody can
// make a link; only the reader can say that this page may see and hear. `scalability` (L3T3_KEY, …) sets WebRTC's scalabilityMode.
// `window.weir = { publishers, watchers }` holds what runs; each has `pc` (RTCPeerConnection), `stats` and `state`.

import { query, takeToken, toWatch, watched, watchLink } from "./address.js";
import { AT_ONCE, Everyone, MOST, PAUSE } from "./everyone.js";
import { Publisher } from "./publisher.js";
import { choose, PublishForm } from "./publishform.js";
import { find, Rooms } from "./rooms.js";
import { asProblem, Problem } from "./session/problem.js";
import { copy } from "./view/copying.js";
import { showProblem } from "./view/dom.js";
import { People } from "./view/people.js";
import { Watcher } from "./watcher.js";

const byId = (id) => document.getElementById(id);
const publishers = [];
const watchers = [];
window.weir = { publishers, watchers };

const fields = { room: byId("room"), identity: byId("identity"), token: byId("token") };
const watchForm = byId("watch");
const tiles = byId("tiles");
let listed = null; // what the node said of its rooms last; null: nothing

/** True until the reader of a page that was opened to watch wants to join in. */
const viewing = () => document.body.classList.contains("to-watch");
const context = () => ({ room: fields.room.value.trim(), identity: fields.identity.value.trim(), token: fields.token.value.trim() });
const publisherOf = (room, identity) => publishers.find(({ options }) => options.room === room && options.identity === identity);
const watcherOf = (room, identity) => watchers.find(({ options }) => options.room === room && options.identity === identity);
const alertUser = (problem) => showProblem(byId("alert"), problem && asProblem(problem));

function publish(options) {
  alertUser(null);
  const named = context();
  const publisher = new Publisher({ ...named, ...options }, {
    parent: tiles,
    oncapture: (stream) => publishForm.captured(stream),
    onclose: () => { publishers.splice(publishers.indexOf(publisher), 1); changed(); },
  });
  publishers.push(publisher);
  publisher.start();
  changed();
}

/** Watch somebody, once per delay; with sound if it follows a press. Gives the Watcher. */
function watch({ room, identity, lag = Number(watchForm.elements.lag.value), layer = "auto", loud = false }) {
  const same = watchers.find(({ options: other }) => other.room === room && other.identity === identity && other.lag === lag);
  if (same) {
    same.tile.root.scrollIntoView({ behavior: "smooth", block: "nearest" });
    return same;
  }
  alertUser(null);
  const watcher = new Watcher({ room, identity, token: context().token, lag, layer, loud: loud && !publisherOf(room, identity) }, {
    parent: tiles,
    onchange: showStage,
    onrefused: wantToken,
    onclose: () => { watchers.splice(watchers.indexOf(watcher), 1); everyone.closed(watcher); changed(); },
  });
  watchers.push(watcher);
  watcher.start();
  changed();
  return watcher;
}

function requireNames(...names) {
  for (const name of names) {
    if (context()[name]) continue;
    fields[name].focus();
    fields[name].reportValidity?.();
    return false;
  }
  return true;
}

/** Something began or ended here: whatever says so is written anew. */
function changed() {
  publishForm.update();
  if (listed) people.show(listed);
  showStage();
}

/** Above the tiles: what is done for all of them. */
function showStage() {
  const muted = watchers.filter(({ hearing, options }) => hearing?.muted && !publisherOf(options.room, options.identity));
  byId("unmute-all").hidden = muted.length < 2;
  byId("stage-note").textContent = everyone.room === null ? "" : [`Watching everyone in ${everyone.room}`, everyone.left && `${everyone.left} more don’t fit`].filter(Boolean).join("; ");
  byId("stage-bar").hidden = byId("unmute-all").hidden && !byId("stage-note").textContent;
  byId("where").textContent = context().room;
  if (!viewing()) return;
  byId("empty-title").textContent = `Nobody is on air in ${context().room}`;
  byId("empty-text").textContent = "Pictures appear here as people come.";
}

function watchAll(room) {
  if (everyone.room === room) return everyone.stop();
  everyone.start(room);
  everyone.loud = true;
  everyone.see(listed ?? []);
}

/** The card that is likelier to be wanted comes first: to watch when somebody is on air; never under the reader's hands. */
let touched = false;
function order() {
  const publishing = byId("publish");
  const [first, second] = listed.length && !publishers.length ? [watchForm, publishing] : [publishing, watchForm];
  if (!touched && first.nextElementSibling !== second) second.before(first);
}

function onRooms(rooms) {
  listed = rooms;
  if (!watchers.some(({ state }) => state === "ended")) document.body.classList.remove("token-wanted");
  for (const item of [...publishers, ...watchers]) item.setInfo(find(rooms, item.options.room, item.options.identity));
  everyone.see(rooms);
  people.show(rooms);
  order();
}

function onRefusal(error) {
  const refused = error.status === 401 || error.status === 403;
  listed = null;
  people.note(refused ? "This server does not list its rooms. Type a name below." : "The list is not available just now.");
  if (refused) wantToken();
}

/** A page without forms shows one field of them when nothing goes without it. */
function wantToken() {
  document.body.classList.add("token-wanted");
  byId("token-details").open ||= viewing();
}

const everyone = new Everyone({
  watch: (whom) => watch({ ...whom, loud: everyone.loud }),
  isOwn: publisherOf,
  isChosen: watcherOf,
  onchange: showStage,
});
const people = new People(byId("people"), {
  context,
  watch: (whom) => watch({ ...whom, loud: true }),
  everyone: (room) => { watchAll(room); changed(); },
  stateOf: (room, identity) => (publisherOf(room, identity) ? "own" : watcherOf(room, identity) ? "watched" : ""),
  watchesAll: (room) => everyone.room === room,
});
const publishForm = new PublishForm(byId("publish"), {
  ready: () => requireNames("room", "identity"),
  running: () => publisherOf(context().room, context().identity),
  publish,
  onproblem: alertUser,
});
const rooms = new Rooms({
  ask: () => ({ token: context().token, room: viewing() ? context().room : "" }),
  needed: () => everyone.room !== null,
  onrooms: onRooms,
  onproblem: onRefusal,
});

for (const form of [byId("publish"), watchForm]) for (const event of ["focusin", "pointerdown"]) form.addEventListener(event, () => { touched = true; });
byId("you").addEventListener("submit", (event) => event.preventDefault());
watchForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const { name } = watchForm.elements;
  if (!requireNames("room")) return;
  watch({ room: context().room, identity: name.value.trim(), loud: true });
  name.value = "";
});
for (const field of [fields.room, fields.identity]) field.addEventListener("input", changed);
fields.room.addEventListener("change", () => rooms.poll());
fields.token.addEventListener("change", () => {
  watchers.forEach((watcher) => watcher.setToken(context().token));
  rooms.poll();
});
byId("unmute-all").addEventListener("click", () => {
  everyone.loud = true; // who comes later is heard too
  for (const { hearing, options } of watchers) if (!publisherOf(options.room, options.identity)) hearing.set(false);
});
byId("copy-room").addEventListener("click", () => copy(watchLink(context().room), byId("copied"), alertUser));
byId("join-in").addEventListener("click", () => {
  document.body.classList.remove("to-watch");
  rooms.poll();
  publishForm.start.focus();
  byId("publish").scrollIntoView({ behavior: "smooth", block: "nearest" });
});

/** Fill the forms from the address; what it does not say keeps a sensible default. */
function fillForms() {
  fields.room.value = query.get("room") || "demo";
  fields.identity.value = query.get("identity") || `guest-${Math.floor(1000 + 9000 * Math.random())}`;
  fields.token.value = takeToken();
  byId("token-details").open = fields.token.value !== "";
  choose(watchForm.elements.lag, query.get("lag"));
  document.body.classList.toggle("to-watch", toWatch);
}

function startFromAddress() {
  if (!("RTCPeerConnection" in window)) return alertUser(new Problem("This browser has no WebRTC", "Use a current Chrome, Edge, Firefox or Safari."));
  const { room, identity } = context();
  const source = query.get("publish");
  if (source !== null && publishForm.source !== source) alertUser(new Problem("Unknown source", `“${source}” is no source; choose camera, screen or microphone.`));
  else if (source !== null) publishForm.offer(room, identity);
  const lag = Math.max(0, Number(query.get("lag")) || 0);
  const begin = (names) => {
    for (const name of names.slice(0, AT_ONCE)) watch({ room, identity: name, lag, layer: query.get("layer") || "auto" });
    if (names.length > AT_ONCE) setTimeout(begin, PAUSE, names.slice(AT_ONCE));
  };
  begin(watched.slice(0, MOST));
  if (toWatch && !watched.length) everyone.start(room);
}

/** Figures once a second, for all tiles alike; a reading that fails (its connection just closed) is the next second's matter. */
function measureAll() {
  for (const item of [...publishers, ...watchers]) item.measure().catch(() => {});
}

addEventListener("pagehide", () => [...publishers, ...watchers].forEach((item) => item.stop()));
addEventListener("unhandledrejection", ({ reason }) => alertUser(reason));

fillForms();
startFromAddress();
changed();
rooms.poll();
setInterval(measureAll, 1000);
