// Why: werift, WebRTC written in TypeScript alone. It has no codecs.

import { readFileSync } from "node:fs";
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from "werift";
import { exchange, figures, input, name, output, publishing, tell } from "./peer.mjs";

const feedback = [{ type: "nack" }, { type: "nack", parameter: "pli" }, { type: "transport-cc" }];
const MIME = { vp8: "video/VP8", vp9: "video/VP9", h264: "video/H264", av1: "video/AV1" };
const H264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
const form = { mimeType: MIME[name], clockRate: 90000, rtcpFeedback: feedback, ...(name === "h264" ? { parameters: H264 } : {}) };

tell("version", { text: `werift ${JSON.parse(readFileSync(new URL("node_modules/werift/package.json", import.meta.url))).version}` });
const pc = new RTCPeerConnection({
  bundlePolicy: "max-bundle",
  iceServers: [],
  iceUseIpv6: false,
  iceAdditionalHostAddresses: ["127.0.0.1"],
  codecs: {
    audio: [new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48000, channels: 2 })],
    video: [new RTCRtpCodecParameters(form)],
  },
});
pc.connectionStateChange.subscribe((state) => tell("state", { state }));

const tracks = {};
for (const kind of ["audio", "video"]) {
  if (publishing) {
    tracks[kind] = new MediaStreamTrack({ kind });
    const { sender } = pc.addTransceiver(tracks[kind], { direction: "sendonly" });
    sender.onPictureLossIndication.subscribe(() => { figures[kind].pli = (figures[kind].pli ?? 0) + 1; });
  } else {
    const send = output(kind);
    const transceiver = pc.addTransceiver(kind, { direction: "recvonly" });
    transceiver.onTrack.subscribe((track) => track.onReceiveRtp.subscribe((packet) => send(packet.serialize())));
  }
}

await pc.setLocalDescription(await pc.createOffer());
if (pc.iceGatheringState !== "complete") await pc.iceGatheringStateChange.watch((state) => state === "complete");
await pc.setRemoteDescription({ type: "answer", sdp: await exchange(pc.localDescription.sdp) });
if (publishing) await input((kind, packet) => tracks[kind].writeRtp(packet));
