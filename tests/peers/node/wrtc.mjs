// Why: libwebrtc without a browser, by `@roamhq/wrtc`: it encodes and decodes by itself, so pictures are made and counted here.

import { readFileSync } from "node:fs";
import wrtc from "@roamhq/wrtc";
import { exchange, figures, name, publishing, tell } from "./peer.mjs";

const { RTCPeerConnection, nonstandard } = wrtc;
const [WIDTH, HEIGHT, RATE, SOUND] = [320, 180, 25, 480];
const { version } = JSON.parse(readFileSync(new URL("node_modules/@roamhq/wrtc/package.json", import.meta.url)));
const wanted = `video/${name}`;

tell("version", { text: `@roamhq/wrtc ${version} (libwebrtc M106)` });
const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: [] });
pc.onconnectionstatechange = () => tell("state", { state: pc.connectionState });

/** A bright bar that moves over grey. */
function picture(number) {
  const data = new Uint8ClampedArray((WIDTH * HEIGHT * 3) / 2).fill(128);
  for (let y = 0; y < HEIGHT; y += 1) data.fill(235, y * WIDTH + ((4 * number) % 280), y * WIDTH + ((4 * number) % 280) + 40);
  return { width: WIDTH, height: HEIGHT, data };
}

/** 10 ms of 440 Hz. */
function tone(number) {
  const samples = Int16Array.from({ length: SOUND }, (_, k) => 8000 * Math.sin((2 * Math.PI * 440 * (number * SOUND + k)) / 48000));
  return { samples, sampleRate: 48000, bitsPerSample: 16, channelCount: 1, numberOfFrames: SOUND };
}

function every(milliseconds, run) {
  const begun = performance.now();
  let number = 0;
  setInterval(() => {
    while (number * milliseconds <= performance.now() - begun) run(number++);
  }, milliseconds);
}

function send() {
  const [sound, camera] = [new nonstandard.RTCAudioSource(), new nonstandard.RTCVideoSource()];
  pc.addTransceiver(sound.createTrack(), { direction: "sendonly" });
  const transceiver = pc.addTransceiver(camera.createTrack(), { direction: "sendonly" });
  every(10, (number) => sound.onData(tone(number)));
  every(1000 / RATE, (number) => camera.onFrame(picture(number)));
  return transceiver;
}

function receive() {
  pc.addTransceiver("audio", { direction: "recvonly" });
  const transceiver = pc.addTransceiver("video", { direction: "recvonly" });
  pc.ontrack = ({ track }) => {
    if (track.kind === "audio") {
      new nonstandard.RTCAudioSink(track).ondata = () => { figures.audio.packets += 0.5; }; // 10 ms are half a packet
      return;
    }
    figures.video.frames = 0;
    new nonstandard.RTCVideoSink(track).onframe = ({ frame }) => {
      figures.video.frames += 1;
      Object.assign(figures.video, { width: frame.width, height: frame.height });
    };
  };
  return transceiver;
}

const transceiver = publishing ? send() : receive();
const all = wrtc.RTCRtpSender.getCapabilities("video").codecs;
const chosen = all.filter(({ mimeType }) => [wanted, "video/rtx"].includes(mimeType.toLowerCase()));
if (chosen.length < 2) {
  tell("refused", { status: 0, text: `this build of libwebrtc has no ${name}` });
  process.exit(1);
}
transceiver.setCodecPreferences(chosen);
await pc.setLocalDescription(await pc.createOffer());
if (pc.iceGatheringState !== "complete")
  await new Promise((resolve) => { pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && resolve(); });
await pc.setRemoteDescription({ type: "answer", sdp: await exchange(pc.localDescription.sdp) });
if (publishing)
  setInterval(async () => {
    for (const report of (await pc.getStats()).values())
      if (report.type === "outbound-rtp") Object.assign(figures[report.kind], { packets: report.packetsSent, frames: report.framesEncoded, pli: report.pliCount });
  }, 500);
