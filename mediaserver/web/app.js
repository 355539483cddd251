// Why: ties the page together: the forms, the list of people, the tiles, and the address that can start it all.
//
//   /?room=demo&identity=alice&publish=camera&codec=vp8&simulcast=1&resolution=720&sound=1&token=…
//   /?room=demo&watch=alice,bob&layer=h&lag=1000
//
// `publish` is camera, screen or microphone: it sets up the form, and the reader's press on its button starts it. Anybody can
// make a link; only the reader can say that this page may see and hear. `scalability` (L3T3_KEY, …) sets WebRTC's scalabilityMode.
// `window.weir = { publishers, watchers }` holds what runs; each has `pc` (RTCPeerConnection), `stats` and `state`.

import { asProblem, Problem } from "./problem.js";
import { Publisher } from "./publisher.js";
import { RoomList } from "./rooms.js";
import { showProblem } from "./dom.js";
import { Watcher } from "./watcher.js";
import { sendCodecs } from "./whip.js";

const ARMING = 500; // ms after the page has come to the front in which a press may still have been meant for the page before

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const publishers = [];
const watchers = [];
window.weir = { publishers, watchers };

const fields = { room: byId("room"), identity: byId("identity"), token: byId("token") };
const publishForm = byId("publish");
const watchForm = byId("watch");
const tiles = byId("tiles");

const on = (value, fallback) => (value === null ? fallback : !["0", "false", "no", "off"].includes(value));
const context = () => ({ room: fields.room.value.trim(), identity: fields.identity.value.trim(), token: fields.token.value.trim() });
const remove = (list) => (item) => list.splice(list.indexOf(item), 1);

function publish(options) {
  const { room, identity } = options;
  if (publishers.some((other) => other.options.room === room && other.options.identity === identity)) {
    return alertUser(new Problem("Already publishing", `“${identity}” is published from this page. Change the name to publish something else beside it.`));
  }
  alertUser(null);
  const publisher = new Publisher(options, { parent: tiles, onclose: remove(publishers) });
  publishers.push(publisher);
  publisher.start();
}

function watch(options) {
  const same = watchers.find(({ options: other }) => other.room === options.room && other.identity === options.identity && other.lag === options.lag);
  if (same) return same.tile.root.scrollIntoView({ behavior: "smooth", block: "nearest" });
  alertUser(null);
  const watcher = new Watcher(options, { parent: tiles, onclose: remove(watchers) });
  watchers.push(watcher);
  watcher.start();
}

const alertUser = (problem) => showProblem(byId("alert"), problem);

function requireNames(...names) {
  for (const name of names) {
    if (context()[name]) continue;
    fields[name].focus();
    fields[name].reportValidity?.();
    return false;
  }
  return true;
}

function publishOptions() {
  const form = new FormData(publishForm);
  const source = form.get("source");
  return {
    ...context(),
    source,
    codec: publishForm.elements.codec.value,
    height: Number(publishForm.elements.resolution.value),
    simulcast: publishForm.elements.simulcast.checked,
    sound: publishForm.elements.sound.checked,
    scalabilityMode: query.get("scalability") ?? "",
  };
}

/** For a moment no press publishes: a page that opens this one under the reader's double click gets nothing by it. */
let arming = 0;
function disarm() {
  const button = publishForm.querySelector("button.primary");
  button.setAttribute("aria-disabled", "true");
  clearTimeout(arming);
  arming = setTimeout(() => button.removeAttribute("aria-disabled"), ARMING);
}

byId("you").addEventListener("submit", (event) => event.preventDefault());
publishForm.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.hasAttribute("aria-disabled")) return;
  if (requireNames("room", "identity")) publish(publishOptions());
});
addEventListener("focus", disarm);
publishForm.addEventListener("change", () => {
  byId("video-options").disabled = publishForm.elements.source.value === "microphone";
});
watchForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const { name, lag } = watchForm.elements;
  if (!requireNames("room")) return;
  watch({ room: context().room, token: context().token, identity: name.value.trim(), lag: Number(lag.value) });
  name.value = "";
});
fields.room.addEventListener("input", () => { byId("where").textContent = context().room; });

/** Fill the forms from the address; what it does not say keeps a sensible default. */
function fillForms() {
  fields.room.value = query.get("room") || "demo";
  fields.identity.value = query.get("identity") || `guest-${Math.floor(1000 + 9000 * Math.random())}`;
  fields.token.value = takeToken();
  byId("token-details").open = fields.token.value !== "";
  byId("where").textContent = fields.room.value;
  const { codec, resolution, simulcast, sound, source } = publishForm.elements;
  for (const option of codec.options) {
    option.disabled = !sendCodecs(option.value).length;
    if (option.disabled) option.textContent += " (not here)";
  }
  codec.value = [...codec.options].find(({ disabled }) => !disabled)?.value ?? "vp8";
  choose(codec, query.get("codec")?.toLowerCase().replace(".", ""));
  choose(resolution, query.get("resolution")?.replace(/p$/, ""));
  choose(watchForm.elements.lag, query.get("lag"));
  simulcast.checked = on(query.get("simulcast"), true);
  sound.checked = on(query.get("sound"), true);
  if (["camera", "screen", "microphone"].includes(query.get("publish"))) source.value = query.get("publish");
  byId("video-options").disabled = source.value === "microphone";
}

function choose(select, value) {
  if (value && [...select.options].some((option) => option.value === value)) select.value = value;
}

/** The token leaves the address bar, so that a copied address gives nobody a right; a reload finds it again. */
function takeToken() {
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

/** A link that wants something published: the form is filled, and the reader decides. */
function offerToPublish(source) {
  if (publishForm.elements.source.value !== source) return alertUser(new Problem("Unknown source", `“${source}” is no source; choose camera, screen or microphone.`));
  byId("asked").textContent = `This link is for publishing to “${context().room}” as “${context().identity}”. Nothing is sent before you press the button.`;
  byId("asked").hidden = false;
  publishForm.querySelector("button.primary").focus();
}

function startFromAddress() {
  if (!("RTCPeerConnection" in window)) return alertUser(new Problem("This browser has no WebRTC", "Use a current Chrome, Edge, Firefox or Safari."));
  if (query.has("publish")) offerToPublish(query.get("publish"));
  const { room, token } = context();
  const lag = Math.max(0, Number(query.get("lag")) || 0);
  for (const identity of query.getAll("watch").flatMap((names) => names.split(",")).map((name) => name.trim()).filter(Boolean)) {
    watch({ room, token, identity, lag, layer: query.get("layer") || "auto" });
  }
}

/** Figures once a second, for all tiles alike; a reading that fails (its connection just closed) is the next second's matter. */
function measureAll() {
  for (const item of [...publishers, ...watchers]) item.measure().catch(() => {});
}

addEventListener("pagehide", () => [...publishers, ...watchers].forEach((item) => item.stop()));
addEventListener("unhandledrejection", ({ reason }) => alertUser(asProblem(reason)));

fillForms();
disarm();
const people = new RoomList(byId("people"), {
  context,
  watch: ({ room, identity }) => watch({ room, identity, token: context().token, lag: Number(watchForm.elements.lag.value) }),
});
fields.token.addEventListener("change", () => people.poll());
fields.room.addEventListener("change", () => people.poll());
people.poll();
startFromAddress();
setInterval(measureAll, 1000);
