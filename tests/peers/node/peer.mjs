// Why: what the clients on Node.js have in common. Each is `node NAME.mjs publish|watch URL CODEC [AUDIO_PORT VIDEO_PORT]`,
// tells what it sees in the lines of JSON that ../../e2e/foreign.py reads, and leaves its session on SIGTERM.
//
// A stack without encoders publishes the RTP that comes to the two UDP ports it names (`listening`), and hands what it
// receives to the two ports of its arguments, where the test decodes it.

import { createSocket } from "node:dgram";

const HOST = "127.0.0.1";
const [what, url, codec, ...ports] = process.argv.slice(2);
export const publishing = what === "publish";
export const name = codec; // vp8, vp9, h264, av1
export const figures = { video: { packets: 0 }, audio: { packets: 0 } };
let resource = null;

export const tell = (event, values = {}) => process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);

/** Post the offer; resolves with the answer. A refusal is told, and ends the program. */
export async function exchange(sdp) {
  if (process.env.SHOW_SDP) console.log(sdp);
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: sdp });
  const text = await response.text();
  if (process.env.SHOW_SDP) console.log(text);
  if (response.status !== 201) {
    tell("refused", { status: response.status, text });
    process.exit(1);
  }
  resource = new URL(response.headers.get("Location"), url);
  tell("answered");
  return text;
}

/** A socket that sends RTP of a kind to the test. */
export function output(kind) {
  const socket = createSocket("udp4");
  const port = Number(ports[kind === "audio" ? 0 : 1]);
  return (packet) => {
    figures[kind].packets += 1;
    socket.send(packet, port, HOST);
  };
}

/** Take RTP of both kinds from the test: `take(kind, packet)`. */
export async function input(take) {
  const bound = {};
  for (const kind of ["audio", "video"]) {
    const socket = createSocket("udp4");
    socket.on("message", (packet) => {
      figures[kind].packets += 1;
      take(kind, packet);
    });
    await new Promise((resolve) => socket.bind(0, HOST, resolve));
    bound[kind] = socket.address().port;
  }
  tell("listening", bound);
}

/** Count picture loss indications (RFC 4585 section 6.3.1) in a compound RTCP packet. */
export function countRequests(kind, packet) {
  for (let at = 0; at + 4 <= packet.length; at += 4 + 4 * packet.readUInt16BE(at + 2))
    if (packet[at + 1] === 206 && (packet[at] & 31) === 1) figures[kind].pli = (figures[kind].pli ?? 0) + 1;
}

setInterval(() => tell("figures", figures), 500);
process.on("SIGTERM", async () => {
  if (resource) await fetch(resource, { method: "DELETE" }).catch(() => {});
  process.exit(0);
});
