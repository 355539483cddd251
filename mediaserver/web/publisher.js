// Why: one thing that is being published from this page: its capture, its WHIP session, its tile. When the session is
// lost it says so and keeps the capture, so that one press brings it back.

import { watchLink } from "./address.js";
import { BITRATES, capture, fromDevice, hasOtherSide, isMirrored, otherCamera } from "./capture/media.js";
import { asProblem, Problem } from "./session/problem.js";
import { Meter } from "./session/stats.js";
import { WhipClient } from "./session/whip.js";
import { copy } from "./view/copying.js";
import { runsBackwards } from "./view/notices.js";
import { Tile } from "./view/tile.js";

const SOURCE_NAMES = { camera: "Camera", screen: "Screen", microphone: "Audio only" };

export class Publisher {
  #received = []; // layers of the picture as the node measures them
  #muted = false;
  #exchanged = Promise.resolve();
  #paused = false;

  /**
   * `options`: {room, identity, token, source, codec, simulcast, height, sound, camera, microphone, scalabilityMode, stream};
   * `stream`, if there is one, is what a preview has captured. `onclose` is told when it ends, `oncapture` of each change of
   * what is captured.
   */
  constructor({ stream = null, ...options }, { parent, onclose = () => {}, oncapture = () => {} }) {
    this.options = options;
    this.onclose = onclose;
    this.oncapture = oncapture;
    this.client = null;
    this.stream = stream;
    this.stats = {};
    this.state = "starting";
    this.tile = new Tile(parent, { name: options.identity, mark: `You · ${SOURCE_NAMES[options.source] ?? options.source}`, own: true });
    this.tile.setState("starting", stream ? "" : "Waiting for permission");
  }

  get pc() {
    return this.client?.pc ?? null;
  }

  /** Capture and publish. Never throws: problems are shown in the tile. */
  async start() {
    try {
      await this.#capture();
      if (this.closed) return this.#stopTracks();
      await this.#publish();
    } catch (error) {
      this.#fail(asProblem(error));
    }
  }

  stop() {
    this.closed = true;
    this.client?.close();
    this.#stopTracks();
    this.wakeLock?.release?.().catch(() => {});
    this.tile.remove();
    this.onclose(this);
  }

  /** Read the figures of the last second. */
  async measure() {
    if (!this.meter || this.client.closed) return;
    this.stats = await this.meter.read();
    this.tile.setFigures(this.stats, { muted: this.#muted, received: this.#received });
  }

  /** What /api/rooms says of this participant; undefined when it is not there. */
  setInfo(info) {
    this.#received = info?.tracks.find(({ kind }) => kind === "video")?.layers ?? [];
    const watching = info ? ` · ${info.viewers} watching` : "";
    this.tile.setMark(`You · ${SOURCE_NAMES[this.options.source]}${watching}`);
    this.tile.setHint(runsBackwards(info) ? "The node sees pictures out of order (B-frames): viewers lose most of the pictures." : "");
  }

  /** Send another camera ("video") or microphone ("audio") from now on. */
  async use(kind, deviceId) {
    this.options[kind === "video" ? "camera" : "microphone"] = deviceId; // also for the next attempt
    await this.#exchange(
      () => this.stream?.getTracks().find((track) => track.kind === kind),
      (before) => fromDevice(before, deviceId, this.options.height),
    );
  }

  async #capture() {
    if (!this.stream?.getTracks().some(({ readyState }) => readyState === "live")) this.stream = await capture(this.options);
    if (this.tile.video.srcObject !== this.stream) {
      this.tile.video.srcObject = this.stream;
      for (const track of this.stream.getTracks()) track.addEventListener("ended", () => this.#ended(track));
    }
    this.#captured();
    if (!this.buttons) await this.#addButtons();
  }

  #captured() {
    this.tile.root.classList.toggle("mirrored", isMirrored(this.options.source, this.#videoTrack()));
    this.tile.sound.attach(this.stream);
    this.oncapture(this.stream);
  }

  async #publish() {
    const { room, identity, token, source, codec, simulcast, height, scalabilityMode } = this.options;
    this.#setState("connecting", "Connecting");
    const screen = source === "screen" ? "?source=screen_share" : ""; // what a token's canPublishSources is asked for
    const client = new WhipClient({ url: `whip/${encodeURIComponent(room)}/${encodeURIComponent(identity)}${screen}`, token });
    this.client = client;
    this.meter = new Meter(client.pc);
    client.addEventListener("connected", () => this.#setState("live", this.#videoTrack() ? "" : "Sound only"));
    client.addEventListener("interrupted", () => this.#setState("repairing", "The connection is interrupted; trying to repair it"));
    client.addEventListener("lost", ({ detail }) =>
      this.#fail(new Problem("You are no longer on air", `${detail.title}. ${detail.detail}`.trim())));
    const refused = await client.publish(this.stream, { codec, simulcast, height, scalabilityMode, maxBitrate: BITRATES[height] });
    if (refused.length) this.tile.setProblem(new Problem("Not everything is sent", `The server declined the ${refused.join(" and the ")}.`));
    if (this.closed) return;
    this.wakeLock = await navigator.wakeLock?.request("screen").catch(() => null); // a phone that sleeps stops sending
    if (this.closed) this.wakeLock?.release?.().catch(() => {});
  }

  async #addButtons() {
    this.buttons = true;
    const { tile, options } = this;
    if (this.stream.getAudioTracks().length) tile.addToggle("mic", "Mute microphone", (off) => { this.#muted = off; this.#enable("audio", !off); });
    if (this.#videoTrack()) tile.addToggle("camera", "Pause picture", (off) => { this.#paused = off; this.#enable("video", !off); });
    if (options.source === "camera" && (await hasOtherSide(this.#videoTrack()))) {
      tile.addButton("flip", "Other camera", () => this.#exchange(() => this.#videoTrack(), (track) => otherCamera(track, options.height)));
    }
    const link = watchLink(options.room, options.identity);
    tile.addButton("link", "Copy link to watch", () => copy(link, tile.find(".said"), (problem) => tile.setProblem(problem)));
    tile.addButton("close", "Stop publishing", () => this.stop()).classList.add("danger");
  }

  #enable(kind, enabled) {
    for (const track of this.stream.getTracks()) if (track.kind === kind) track.enabled = enabled;
  }

  /** One exchange after the other: of two at once each would replace the same track, and one camera stayed open. */
  #exchange(find, take) {
    this.#exchanged = this.#exchanged.then(() => this.#exchangeNow(find(), take));
    return this.#exchanged;
  }

  /** Another track in the place of one, captured by `take`; muted and paused stay what they are. */
  async #exchangeNow(before, take) {
    if (!before || this.closed) return;
    try {
      const track = await take(before);
      if (this.closed) return track.stop();
      this.stream.removeTrack(before);
      this.stream.addTrack(track);
      this.#enable("audio", !this.#muted);
      this.#enable("video", !this.#paused);
      track.addEventListener("ended", () => this.#ended(track));
      await this.client?.replace(track);
      this.tile.setProblem(null);
    } catch (error) {
      this.tile.setProblem(asProblem(error));
    }
    this.#captured();
  }

  #ended(track) {
    if (this.closed) return;
    if (this.options.source === "screen" && track.kind === "video") return this.stop(); // "Stop sharing" in the browser's own bar
    this.tile.setProblem(new Problem(`The ${track.kind === "video" ? "camera" : "microphone"} stopped`, "It was unplugged or taken by another program."));
  }

  #setState(state, notice) {
    this.state = state;
    this.tile.setState(state, notice);
    if (state === "live") this.tile.setProblem(null);
  }

  #fail(problem) {
    if (this.closed) return;
    this.client?.close();
    this.problem = problem;
    this.#setState("ended", "Not on air");
    if (!this.tile.find(".danger")) this.tile.addButton("close", "Remove", () => this.stop()).classList.add("danger");
    this.tile.setProblem(problem, { label: "Publish again", run: () => { this.tile.setProblem(null); this.start(); } });
  }

  #videoTrack() {
    return this.stream?.getVideoTracks()[0];
  }

  #stopTracks() {
    this.stream?.getTracks().forEach((track) => track.stop());
  }
}
