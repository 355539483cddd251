// Why: watching over WHEP (draft-ietf-wish-whep) in one class that any page can use. It owns one peer connection that
// receives one audio and one video track, and speaks the layer and server-sent-events extensions when they are offered.

import { readEvents } from "./eventstream.js";
import { HttpSession } from "./session.js";

const LAYER = "urn:ietf:params:whep:ext:core:layer";
const EVENTS = "urn:ietf:params:whep:ext:core:server-sent-events";
const WANTED = ["active", "inactive", "layers", "viewercount"];
const SILENT = 500; // ms without a packet after which there is no sound, whatever the last one told
const EVENTS_RETRY = 2_000; // ms before a broken event stream is asked for again

/** Largest first, then the higher bitrate; those of unknown size last. */
const byQuality = (a, b) => (b.height ?? 0) - (a.height ?? 0) || (b.bitrate ?? 0) - (a.bitrate ?? 0);

const DESCRIPTOR = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/** Offer the dependency descriptor: without it AV1 with spatial layers can't be put together. Chromium has to be told. */
function offerDescriptor(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  const descriptor = extensions?.find(({ uri }) => uri === DESCRIPTOR);
  if (!descriptor) return;
  descriptor.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

/**
 * A WHEP viewer.
 *
 *     const client = new WhepClient({ url: "/whep/demo/alice", token, layer: "h", lag: 1000 });
 *     video.srcObject = client.stream;
 *     client.addEventListener("layers", () => menu(client.layers, client.current));
 *     await client.view();
 *     await client.selectLayer("q");
 *     client.close();
 *
 * Events besides those of HttpSession: `track`; `active`, `inactive` (detail: the data, with `kind`); `layers`, `viewercount` (detail: the data).
 */
export class WhepClient extends HttpSession {
  #abort = new AbortController();
  #heard = { packet: 0, at: 0 }; // the last packet of sound that soundLevel saw, and when

  /** `layer` is a rid to start with, `lag` a delay in milliseconds; both may be left out. */
  constructor({ layer = "", lag = 0, ...rest }) {
    super(rest);
    if (layer && layer !== "auto") this.url.searchParams.set("layer", layer);
    if (lag) this.url.searchParams.set("lag", String(lag));
    this.stream = new MediaStream();
    this.layers = []; // of the video track: [{encodingId, active, width, height, bitrate}], best first
    this.current = null; // the encodingId that is being received
    this.viewers = null;
    this.pc.addEventListener("track", ({ track }) => {
      this.stream.addTrack(track);
      this.dispatchEvent(new CustomEvent("track", { detail: track }));
    });
  }

  /** Offer to receive. Resolves with the answer applied; `connected` follows. Throws a Problem. */
  async view() {
    try {
      this.pc.addTransceiver("audio", { direction: "recvonly" });
      offerDescriptor(this.pc.addTransceiver("video", { direction: "recvonly" }));
      await this.negotiate();
    } catch (error) {
      this.close();
      throw error;
    }
    this.#follow();
  }

  /** Sound in two channels is the receiver's wish (RFC 7587, section 7.1); Chromium has no other way to say it. */
  wish(sdp) {
    const [, opus] = /^a=rtpmap:(\d+) opus\//im.exec(sdp) ?? [];
    const line = new RegExp(`^(a=fmtp:${opus} (?!.*\\bstereo=).*)$`, "gm"); // Firefox says it by itself
    return opus === undefined ? sdp : sdp.replace(line, "$1;stereo=1");
  }

  /** True when the server lets layers be chosen. */
  get selectable() {
    return this.link(LAYER) !== null;
  }

  /** Receive one layer: "auto", or an encodingId (rid), with optional limits {maxSpatialLayerId, maxTemporalLayerId}. */
  async selectLayer(encodingId, limits = {}) {
    const url = this.link(LAYER);
    if (!url) throw new Error("this server has no layer extension");
    if (encodingId === "auto" && !Object.keys(limits).length) return void (await this.request("DELETE", url));
    const body = JSON.stringify({ mediaId: this.#videoMid(), encodingId, ...limits });
    await this.request("POST", url, { body, type: "application/json" });
  }

  /** How loud the sound is now, an amplitude of 0 to 1 as its sender tells (RFC 6464), also while muted; null when it doesn't. */
  soundLevel() {
    const [source] = this.#receiver("audio")?.getSynchronizationSources?.() ?? [];
    if (source?.audioLevel === undefined) return null;
    const now = performance.now();
    if (source.timestamp !== this.#heard.packet) this.#heard = { packet: source.timestamp, at: now };
    return now - this.#heard.at < SILENT ? source.audioLevel : 0;
  }

  close() {
    this.#abort.abort();
    super.close();
  }

  #receiver(kind) {
    return this.pc.getReceivers().find(({ track }) => track.kind === kind);
  }

  #videoMid() {
    return this.pc.getTransceivers().find(({ receiver }) => receiver.track.kind === "video")?.mid ?? null;
  }

  #kindOf(mid) {
    return this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid)?.receiver.track.kind ?? null;
  }

  /** Keep an event stream open for as long as the session lives. */
  async #follow() {
    const url = this.link(EVENTS);
    while (url && !this.closed) {
      try {
        await this.#listen(url);
      } catch (error) {
        if (this.closed || (error.status && !error.passing)) return;
      }
      await new Promise((resolve) => setTimeout(resolve, EVENTS_RETRY));
    }
  }

  async #listen(url) {
    const { signal } = this.#abort;
    const made = await this.request("POST", url, { body: JSON.stringify(WANTED), type: "application/json", signal });
    const location = new URL(made.headers.get("Location") ?? "", made.url);
    const response = await this.request("GET", location, { headers: { Accept: "text/event-stream" }, signal });
    for await (const { event, data } of readEvents(response)) this.#handle(event, data);
  }

  #handle(event, text) {
    if (!WANTED.includes(event)) return;
    let data;
    try {
      data = text ? JSON.parse(text) : {};
    } catch {
      return; // an event that is no JSON tells us nothing
    }
    if (event === "layers") this.#setLayers(data[this.#videoMid()] ?? {});
    if ("mediaId" in data) data.kind = this.#kindOf(data.mediaId);
    if (event === "viewercount") this.viewers = data.viewercount ?? data.count ?? null;
    this.dispatchEvent(new CustomEvent(event, { detail: data }));
  }

  #setLayers({ active = [], inactive = [], current = null }) {
    const named = new Map();
    const add = (active) => (layer) => layer.encodingId && !named.has(layer.encodingId) && named.set(layer.encodingId, { ...layer, active });
    active.forEach(add(true));
    inactive.forEach(add(false));
    this.layers = [...named.values()].sort(byQuality);
    this.current = current;
  }
}
