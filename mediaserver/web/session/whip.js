// Why: publishing over WHIP (RFC 9725) in one class that any page can use. It owns one peer connection that sends one
// audio and one video track, with a chosen codec and, when wanted, up to three simulcast layers named q, h and f.

import { Problem } from "./problem.js";
import { HttpSession } from "./session.js";

// Share of the top layer's bitrate and the divisor of its size, lowest first: the order in which browsers ramp up.
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, share: 0.08 },
  { rid: "h", scaleResolutionDownBy: 2, share: 0.28 },
  { rid: "f", scaleResolutionDownBy: 1, share: 1 },
];
const HELPERS = new Set(["video/rtx", "video/red", "video/ulpfec", "video/flexfec-03"]);

/** The codecs of `name` (vp8, vp9, h264, av1) that this browser can send, best first, with their repair formats. */
export function sendCodecs(name) {
  const all = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const wanted = all.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`);
  if (!wanted.length) return [];
  // H.264: constrained baseline in packetization mode 1 is what every receiver takes.
  const rank = ({ sdpFmtpLine = "" }) =>
    (sdpFmtpLine.includes("packetization-mode=1") ? 0 : 2) + (sdpFmtpLine.includes("profile-level-id=42e0") ? 0 : 1);
  wanted.sort((a, b) => rank(a) - rank(b));
  return [...wanted, ...all.filter(({ mimeType }) => HELPERS.has(mimeType.toLowerCase()))];
}

let modes; // whether this browser knows scalability modes, once it was asked

function knowsModes() {
  if (modes !== undefined) return modes;
  const pc = new RTCPeerConnection();
  const { sender } = pc.addTransceiver("video", { direction: "sendonly", sendEncodings: [{ scalabilityMode: "L1T1" }] });
  modes = sender.getParameters().encodings?.[0]?.scalabilityMode !== undefined;
  pc.close();
  return modes;
}

/**
 * Whether this browser sends several sizes of a codec. One that knows no scalability modes (Firefox) takes three VP9
 * encodings for layers of one stream: it encodes the smallest size three times and announces the largest.
 */
export const simulcastWorks = (codec) => codec.toLowerCase() !== "vp9" || knowsModes();

/** How many sizes browsers send of a picture of so many lines; of more encodings they leave out the largest. */
export const sizesOf = (height) => (height >= 540 ? 3 : height >= 270 ? 2 : 1);

/** The `sendEncodings` for a video track of so many lines. Bitrates are in bit/s. */
export function encodings({ codec = "", simulcast, height = 720, maxBitrate, scalabilityMode }) {
  const mode = scalabilityMode ? { scalabilityMode } : {};
  const layers = LAYERS.slice(-sizesOf(height));
  if (!simulcast || layers.length === 1) return [{ ...(maxBitrate ? { maxBitrate } : {}), ...mode }];
  // Without a mode of one spatial layer, Chromium takes several VP9 or AV1 encodings for layers of one stream. Three
  // temporal layers let a server drop frames for a slow viewer; H.264 has no descriptor that says which.
  const plain = codec.toLowerCase() === "h264" ? "L1T1" : "L1T3";
  return layers.map(({ rid, scaleResolutionDownBy, share }) => ({
    rid,
    scaleResolutionDownBy,
    scalabilityMode: scalabilityMode || plain,
    ...(maxBitrate ? { maxBitrate: Math.round(maxBitrate * share) } : {}),
  }));
}

/**
 * A WHIP publisher.
 *
 *     const client = new WhipClient({ url: "/whip/demo/alice", token });
 *     client.addEventListener("lost", ({ detail }) => show(detail.title));
 *     await client.publish(stream, { codec: "vp8", simulcast: true, maxBitrate: 2_500_000 });
 *     client.close();
 */
export class WhipClient extends HttpSession {
  /** Offer the tracks of `stream`. Resolves with the answer applied; `connected` follows. Throws a Problem. */
  async publish(stream, options = {}) {
    try {
      for (const track of stream.getTracks()) this.#add(track, stream, options);
      await this.negotiate();
    } catch (error) {
      this.close();
      throw error;
    }
    return this.refusedKinds();
  }

  #add(track, stream, { codec, simulcast = false, height, maxBitrate, scalabilityMode }) {
    const init = { direction: "sendonly", streams: [stream] };
    if (track.kind !== "video") return void this.pc.addTransceiver(track, init);
    init.sendEncodings = encodings({ codec, simulcast, height, maxBitrate, scalabilityMode });
    const transceiver = this.pc.addTransceiver(track, init);
    if (!codec || !transceiver.setCodecPreferences) return;
    const codecs = sendCodecs(codec);
    if (!codecs.length) throw new Problem("This codec is not available", `This browser can't send ${codec.toUpperCase()}.`, { status: 422 });
    transceiver.setCodecPreferences(codecs);
  }

  /** The kinds of track ("audio", "video") that the server declined in its answer. */
  refusedKinds() {
    return this.pc.getTransceivers()
      .filter(({ currentDirection, sender }) => sender.track && !currentDirection?.includes("send"))
      .map(({ sender }) => sender.track.kind);
  }

  /** Send another track of the same kind in place of the present one, without a new offer. */
  async replace(track) {
    const sender = this.pc.getSenders().find((candidate) => candidate.track?.kind === track.kind);
    await sender?.replaceTrack(track);
  }
}
