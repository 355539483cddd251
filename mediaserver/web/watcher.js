// Why: one participant who is watched on this page: a WHEP session that is made again whenever it fails, and its tile
// with the layer menu. A viewer should never have to reload.

import { asProblem, Problem } from "./problem.js";
import { Meter } from "./stats.js";
import { element } from "./dom.js";
import { Tile } from "./tile.js";
import { WhepClient } from "./whep.js";
import { bitrate } from "./figures.js";

const BACKOFF = [1, 2, 4, 8, 15]; // seconds before each further attempt; ±30 % so that viewers do not return as one herd
const STALL = 4; // readings without a new frame or packet after which the picture is called "not arriving"

export class Watcher {
  #attempt = 0;
  #timer = 0;
  #stalled = 0;

  /** `options`: {room, identity, token, layer, lag}; `onclose` is told when the tile is removed. */
  constructor(options, { parent, onclose = () => {} }) {
    this.options = { layer: "auto", lag: 0, ...options };
    this.onclose = onclose;
    this.client = null;
    this.stats = {};
    this.state = "connecting";
    const mark = this.options.lag ? `${this.options.lag / 1000} s behind` : "";
    this.tile = new Tile(parent, { name: options.identity, mark });
    this.#addControls();
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
    this.tile.setFigures(this.stats);
    if (client.pc.connectionState === "connected") this.#judge(before);
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
      if (this.tile.video.srcObject === client.stream) return;
      this.tile.video.srcObject = client.stream;
      this.tile.video.play().catch(() => {}); // a browser that forbids it has its own play button
    });
    on("connected", () => {
      this.#attempt = 0;
      this.#stalled = 0;
      this.tile.setProblem(null);
      this.#setState("waiting", "Waiting for the picture");
    });
    on("interrupted", () => this.#setState("repairing", "Connection interrupted"));
    on("lost", (problem) => this.#fail(problem));
    on("layers", () => this.#showLayers());
    on("active", () => { this.#stalled = 0; });
    on("inactive", ({ reason }) => {
      this.#stalled = STALL; // this notice stays until something arrives
      this.#setState("waiting", inactiveText(this.options.identity, reason));
    });
    on("viewercount", () => this.#showViewers());
  }

  /** Live while frames (or, without video, sound) arrive; else say what is missing. */
  #judge(before) {
    const moved = (kind, key) => (this.stats[kind]?.[key] ?? 0) > (before[kind]?.[key] ?? 0);
    if (moved("video", "framesDecoded")) this.#arrived("");
    else if (!this.stats.video?.framesDecoded && moved("audio", "packetsReceived")) this.#arrived("Sound only");
    else if (++this.#stalled === STALL && ["live", "waiting"].includes(this.state)) this.#setState("waiting", inactiveText(this.options.identity));
  }

  #arrived(notice) {
    this.#stalled = 0;
    this.#setState("live", notice);
  }

  #fail(problem) {
    if (this.closed) return;
    this.client.close();
    this.problem = problem;
    if (!problem.passing) {
      this.#setState("ended", "Not connected");
      this.tile.setProblem(problem, { label: "Try again", run: () => this.start() });
      return;
    }
    const step = BACKOFF[Math.min(this.#attempt++, BACKOFF.length - 1)];
    const delay = Math.max(step * (0.7 + 0.6 * Math.random()), problem.retryAfter);
    this.#setState("repairing", `Trying again in ${Math.max(1, Math.round(delay))} s`);
    this.tile.setProblem(problem, { label: "Try now", run: () => this.start() });
    this.#timer = setTimeout(() => this.start(), 1000 * delay);
  }

  #setState(state, notice) {
    this.state = state;
    this.tile.setState(state, notice);
  }

  #addControls() {
    const { tile } = this;
    const unmute = tile.find(".unmute");
    this.menu = element("select", { className: "layer", title: "Layer", "aria-label": `Layer of ${this.options.identity}`, hidden: true });
    this.menu.addEventListener("change", () => this.selectLayer(this.menu.value));
    tile.find(".actions").append(this.menu);
    const silence = tile.addButton("speaker", "Mute", () => setMuted(true));
    const setMuted = (muted) => {
      tile.video.muted = muted;
      unmute.hidden = !muted;
      silence.hidden = muted;
      if (!muted) tile.video.play().catch(() => {});
    };
    unmute.setAttribute("aria-label", `Unmute ${this.options.identity}`);
    unmute.addEventListener("click", () => setMuted(false));
    setMuted(true);
    tile.addFullscreen();
    tile.addButton("close", "Stop watching", () => this.stop());
  }

  #showLayers() {
    const { layers, current } = this.client;
    const choices = [["auto", this.options.layer === "auto" && current ? `Auto (${current})` : "Auto"]];
    for (const { encodingId, active, height, bitrate: rate } of layers) {
      const facts = [height && `${height}p`, rate && bitrate(rate), !active && "off"].filter(Boolean);
      choices.push([encodingId, [encodingId, ...facts].join(" · ")]);
    }
    const { layer } = this.options;
    if (!choices.some(([value]) => value === layer)) choices.push([layer, layer]);
    this.menu.hidden = !this.client.selectable || choices.length < 2;
    this.menu.replaceChildren(...choices.map(([value, textContent]) => element("option", { value, textContent })));
    this.menu.value = layer;
  }

  #showViewers() {
    const { viewers } = this.client;
    const mark = this.tile.find(".mark");
    const parts = [this.options.lag && `${this.options.lag / 1000} s behind`, viewers !== null && `${viewers} watching`].filter(Boolean);
    mark.textContent = parts.join(" · ");
    mark.hidden = !parts.length;
  }
}

function inactiveText(identity, reason) {
  return reason ? `${identity} can't be shown: ${reason}` : `${identity} is not sending`;
}
