// Why: one participant who is watched on this page: a WHEP session that is made again whenever it fails, and its tile
// with the layer menu. A viewer should never have to reload.

import { asProblem } from "./session/problem.js";
import { Meter } from "./session/stats.js";
import { WhepClient } from "./session/whep.js";
import { addFullscreen, addPictureInPicture, Hearing } from "./view/controls.js";
import { element } from "./view/dom.js";
import { layerText } from "./view/layers.js";
import { hint, tell } from "./view/notices.js";
import { Tile } from "./view/tile.js";

const BACKOFF = [1, 2, 4, 8, 15]; // seconds before each further attempt; ±30 % so that viewers do not return as one herd
const STALL = 4; // readings without a new frame or packet after which it is called "not arriving"
const SURE = 3; // readings with something new after which it arrives, whatever the node has told: its events may be cut off

export class Watcher {
  #attempt = 0;
  #timer = 0;
  #told = {}; // {video, audio}: {state, reason, notice} by the node's events
  #flows = {}; // {video, audio}: whether it arrives
  #readings = { video: 0, audio: 0 }; // how many in a row brought something new; below 0: nothing new
  #seen = ""; // "video" or "audio": the most that has ever arrived
  #info; // the participant as /api/rooms has it

  /**
   * `options`: {room, identity, token, layer, lag, loud}; `loud`: with sound at once, where the browser lets it.
   * `onclose` is told when the tile is removed, `onchange` when it was muted or unmuted,
   * `onrefused` when the node wants another token.
   */
  constructor(options, { parent, onclose = () => {}, onchange = () => {}, onrefused = () => {} }) {
    this.options = { layer: "auto", lag: 0, loud: false, ...options };
    this.onclose = onclose;
    this.onrefused = onrefused;
    this.client = null;
    this.stats = {};
    this.state = "connecting";
    this.leftAt = null; // ms of Date.now() since when they are away
    this.tile = new Tile(parent, { name: options.identity });
    this.#addControls(onchange);
    this.#showMark();
    this.online = () => this.state === "repairing" && this.start();
    addEventListener("online", this.online);
  }

  get pc() {
    return this.client?.pc ?? null;
  }

  /** Connect now; later failures lead to further attempts. Never throws: problems are shown in the tile. */
  async start() {
    clearTimeout(this.#timer);
    this.client?.close();
    const { room, identity, token, layer, lag } = this.options;
    const url = `whep/${encodeURIComponent(room)}/${encodeURIComponent(identity)}`;
    const client = new WhepClient({ url, token, layer, lag });
    this.client = client;
    this.meter = new Meter(client.pc);
    this.#told = {};
    this.#flows = {};
    this.#listen(client);
    this.#setState(this.#attempt ? "repairing" : "connecting", "Connecting");
    try {
      await client.view();
      this.#showLayers();
    } catch (error) {
      if (client === this.client) this.#fail(asProblem(error));
    }
  }

  stop() {
    this.closed = true;
    clearTimeout(this.#timer);
    removeEventListener("online", this.online);
    this.client?.close();
    this.tile.remove();
    this.onclose(this);
  }

  /** Read the figures of the last second. */
  async measure() {
    const { client } = this;
    if (!client || client.closed) return;
    const before = this.stats;
    this.stats = await this.meter.read();
    if (client !== this.client || client.closed) return;
    this.tile.setFigures(this.stats, { lag: this.options.lag });
    if (client.pc.connectionState === "connected") this.#judge(before);
  }

  /** What /api/rooms says of the one who is watched; undefined when they are not there. */
  setInfo(info) {
    this.#info = info;
    this.#hint();
  }

  /** Try with another token, where the one before was not good. */
  setToken(token) {
    this.options.token = token;
    if (this.state === "ended") this.start();
  }

  /** Receive another layer: a rid, or "auto". */
  async selectLayer(layer) {
    this.options.layer = layer;
    try {
      await this.client.selectLayer(layer);
      this.tile.setProblem(null);
    } catch (error) {
      this.tile.setProblem(asProblem(error));
    }
    this.#showLayers();
  }

  #listen(client) {
    const on = (event, run) => client.addEventListener(event, ({ detail }) => client === this.client && run(detail));
    on("track", () => {
      this.tile.sound.attach(client.stream, () => client.soundLevel());
      if (this.tile.video.srcObject === client.stream) return;
      this.tile.video.srcObject = client.stream;
      this.tile.video.play().catch(() => {}); // a browser that forbids it has its own play button
      this.hearing.set(this.hearing.muted && !this.options.loud);
      this.options.loud = false; // from now on as the reader has it
    });
    on("connected", () => {
      this.#attempt = 0;
      this.#readings = { video: 0, audio: 0 };
      this.tile.setProblem(null);
      this.#tell();
    });
    on("interrupted", () => this.#setState("repairing", "Connection interrupted"));
    on("lost", (problem) => this.#fail(problem));
    on("layers", () => this.#showLayers());
    on("active", ({ kind, notice = "" }) => this.#hear(kind, { state: "active", notice }));
    on("inactive", ({ kind, state = "", reason = "" }) => this.#hear(kind, { state, reason }));
    on("viewercount", () => this.#showMark());
  }

  /** The node says how it stands with the picture or the sound. */
  #hear(kind, said) {
    this.#told[kind] = said;
    if (said.state !== "active") this.#flows[kind] = false; // what is still in the buffer doesn't count
    this.#readings[kind] = 0;
    this.#tell();
  }

  /** See what arrives: a picture that is decoded, sound that comes in. */
  #judge(before) {
    const moved = (kind, key) => (this.stats[kind]?.[key] ?? 0) > (before[kind]?.[key] ?? 0);
    this.#count("video", moved("video", "framesDecoded"));
    this.#count("audio", moved("audio", "packetsReceived"));
    if (this.#flows.video || (this.#flows.audio && !this.#seen)) this.#seen = this.#flows.video ? "video" : "audio";
    this.#tell();
  }

  #count(kind, moved) {
    const now = this.#readings[kind];
    this.#readings[kind] = moved ? Math.max(0, now) + 1 : Math.min(0, now) - 1;
    const stopped = (this.#told[kind]?.state ?? "active") !== "active";
    if (this.#readings[kind] >= (stopped ? SURE : 1)) this.#flows[kind] = true;
    else if (this.#readings[kind] <= -STALL) this.#flows[kind] = false;
  }

  #tell() {
    if (this.client.pc.connectionState !== "connected") return;
    const { state, notice, gone } = tell(this.options.identity, { told: this.#told, flows: this.#flows, seen: this.#seen });
    this.leftAt = gone ? this.leftAt ?? Date.now() : null;
    this.#setState(state, notice, gone);
    this.#hint();
  }

  #hint() {
    this.tile.setHint(hint(this.options.identity, this.#told, this.#flows, this.#info));
  }

  #fail(problem) {
    if (this.closed) return;
    this.client.close();
    this.problem = problem;
    if (!problem.passing) {
      this.#setState("ended", "Not connected");
      this.tile.setProblem(problem, { label: "Try again", run: () => this.start() });
      if ([401, 403].includes(problem.status)) this.onrefused();
      return;
    }
    const step = BACKOFF[Math.min(this.#attempt++, BACKOFF.length - 1)];
    const delay = Math.max(step * (0.7 + 0.6 * Math.random()), problem.retryAfter);
    this.#setState("repairing", `Trying again in ${Math.max(1, Math.round(delay))} s`);
    this.tile.setProblem(problem, { label: "Try now", run: () => this.start() });
    this.#timer = setTimeout(() => this.start(), 1000 * delay);
  }

  #setState(state, notice, gone = false) {
    this.state = state;
    this.tile.setState(state, notice, gone);
  }

  #addControls(onchange) {
    const { tile } = this;
    const { identity } = this.options;
    this.hearing = new Hearing(tile, identity, { onchange });
    this.menu = tile.find(".layer");
    this.menu.setAttribute("aria-label", `Size of the picture of ${identity}`);
    this.menu.addEventListener("change", () => this.selectLayer(this.menu.value));
    addPictureInPicture(tile);
    addFullscreen(tile);
    tile.addButton("close", "Stop watching", () => this.stop());
  }

  #showLayers() {
    const { layers, current } = this.client;
    const { layer } = this.options;
    const texts = layers.map((one, i) => [one.encodingId, layerText(one, i)]);
    const now = texts.find(([id]) => id === current)?.[1].split(",")[0];
    const choices = [["auto", layer === "auto" && now ? `Auto (${now})` : "Auto"], ...texts];
    if (!choices.some(([value]) => value === layer)) choices.push([layer, "The size you chose"]);
    this.tile.find(".sizing").hidden = !this.client.selectable || choices.length < 3;
    this.menu.replaceChildren(...choices.map(([value, textContent]) => element("option", { value, textContent })));
    this.menu.value = layer;
  }

  #showMark() {
    const { lag } = this.options;
    const viewers = this.client?.viewers ?? null;
    this.tile.setMark([lag && `${lag / 1000} s behind`, viewers !== null && `${viewers} watching`].filter(Boolean).join(" · "));
  }
}
