// Why: libdatachannel, the WebRTC library of OBS and others, by its bindings `node-datachannel`. It has no codecs.
// Its offers carry `a=ice-options:ice2,trickle`, and its mids are words.

import nodeDataChannel from "node-datachannel";
import { countRequests, exchange, figures, input, name, output, publishing, tell } from "./peer.mjs";

const CODECS = {
  vp8: (video) => video.addVP8Codec(96),
  vp9: (video) => video.addVP9Codec(96),
  av1: (video) => video.addAV1Codec(96),
  h264: (video) => (process.env.H264_FMTP ? video.addH264Codec(96, process.env.H264_FMTP) : video.addH264Codec(96)), // without: 42e01f
};
const SSRC = { audio: 0x0a0d10, video: 0x51de0 };

tell("version", { text: `libdatachannel ${nodeDataChannel.getLibraryVersion()}` });
const pc = new nodeDataChannel.PeerConnection("peer", { iceServers: [], bindAddress: "127.0.0.1", disableAutoNegotiation: true });
pc.onStateChange((state) => tell("state", { state }));

function media(kind) {
  const direction = publishing ? "SendOnly" : "RecvOnly";
  const section = kind === "audio" ? new nodeDataChannel.Audio("audio", direction) : new nodeDataChannel.Video("video", direction);
  if (kind === "audio") section.addOpusCodec(111);
  else CODECS[name](section);
  if (publishing) section.addSSRC(SSRC[kind], "peer", "stream", kind);
  return section;
}

const tracks = {};
for (const kind of ["audio", "video"]) {
  const track = pc.addTrack(media(kind));
  tracks[kind] = track;
  if (publishing) {
    track.setMediaHandler(new nodeDataChannel.RtcpNackResponder());
    track.onMessage((packet) => countRequests(kind, packet));
  } else {
    track.setMediaHandler(new nodeDataChannel.RtcpReceivingSession());
    const send = output(kind);
    track.onMessage((packet) => send(packet));
    if (kind === "video") track.onOpen(() => track.requestKeyframe());
  }
}

pc.onGatheringStateChange(async (state) => {
  if (state !== "complete") return;
  pc.setRemoteDescription(await exchange(pc.localDescription().sdp), "answer");
  if (publishing) await input((kind, packet) => {
    packet.writeUInt32BE(SSRC[kind], 8);
    if (tracks[kind].isOpen()) tracks[kind].sendMessageBinary(packet);
    else figures[kind].packets -= 1;
  });
});
pc.setLocalDescription("offer");
