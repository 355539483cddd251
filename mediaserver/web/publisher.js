// Why: one thing that is being published from this page: its capture, its WHIP session, its tile. When the session is
// lost it says so and keeps the capture, so that one press brings it back.

import { BITRATES, capture, otherCamera, severalCameras } from "./media.js";
import { asProblem, Problem } from "./problem.js";
import { Meter } from "./stats.js";
import { Tile } from "./tile.js";
import { WhipClient } from "./whip.js";

const SOURCE_NAMES = { camera: "Camera", screen: "Screen", microphone: "Audio only" };

export class Publisher {
  /** `options`: {room, identity, token, source, codec, simulcast, height, sound, scalabilityMode}; `onclose` is told when it ends. */
  constructor(options, { parent, onclose = () => {} }) {
    this.options = options;
    this.onclose = onclose;
    this.client = null;
    this.stream = null;
    this.stats = {};
    this.state = "starting";
    this.tile = new Tile(parent, { name: options.identity, mark: `You · ${SOURCE_NAMES[options.source] ?? options.source}`, own: true });
    this.tile.root.classList.toggle("mirrored", options.source === "camera");
    this.tile.setState("starting", "Waiting for permission");
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
    this.tile.setFigures(this.stats);
  }

  async #capture() {
    if (this.stream?.getTracks().some(({ readyState }) => readyState === "live")) return;
    this.stream = await capture(this.options);
    this.tile.video.srcObject = this.stream;
    for (const track of this.stream.getTracks()) track.addEventListener("ended", () => this.#ended(track));
    if (!this.buttons) await this.#addButtons();
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
    const refused = await client.publish(this.stream, { codec, simulcast, scalabilityMode, maxBitrate: BITRATES[height] });
    if (refused.length) this.tile.setProblem(new Problem("Not everything is sent", `The server declined the ${refused.join(" and the ")}.`));
    this.wakeLock = await navigator.wakeLock?.request("screen").catch(() => null); // a phone that sleeps stops sending
  }

  async #addButtons() {
    this.buttons = true;
    const enable = (kind) => (off) => this.stream.getTracks().filter((track) => track.kind === kind).forEach((track) => { track.enabled = !off; });
    if (this.stream.getAudioTracks().length) this.tile.addToggle("mic", "Mute microphone", enable("audio"));
    if (this.#videoTrack()) this.tile.addToggle("camera", "Pause picture", enable("video"));
    if (this.options.source === "camera" && (await severalCameras())) this.tile.addButton("flip", "Other camera", () => this.#flip());
    if (navigator.clipboard) {
      const button = this.tile.addButton("link", "Copy link to watch", async () => {
        await navigator.clipboard.writeText(this.#watchLink()).catch(() => {});
        button.classList.add("done");
        setTimeout(() => button.classList.remove("done"), 1500);
      });
    }
    this.tile.addFullscreen();
    this.tile.addButton("close", "Stop publishing", () => this.stop()).classList.add("danger");
  }

  #watchLink() {
    return String(new URL(`./?${new URLSearchParams({ room: this.options.room, watch: this.options.identity })}`, document.baseURI));
  }

  async #flip() {
    const before = this.#videoTrack();
    try {
      const track = await otherCamera(before, this.options.height);
      this.stream.removeTrack(before);
      this.stream.addTrack(track);
      track.addEventListener("ended", () => this.#ended(track));
      this.tile.root.classList.toggle("mirrored", track.getSettings().facingMode !== "environment");
      await this.client?.replace(track);
    } catch (error) {
      this.tile.setProblem(asProblem(error));
    }
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
    if (!this.buttons) this.tile.find(".actions").replaceChildren();
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
