// Why: one place that says how figures are written, so that every tile reads alike. It renders what Meter measured.

import { element } from "./dom.js";
import { bitrate, layerText, size } from "./layers.js";

const NONE = "–";
const HISTORY = 60; // seconds of bitrate in the small graph
const histories = new WeakMap();

const number = (value, digits = 0) => (value === null || value === undefined || Number.isNaN(value) ? NONE : value.toFixed(digits));

/** A codec as people write it; takes "H264", "opus" or a MIME type. */
export const codecName = (codec) => {
  const name = codec?.split("/").pop();
  return { h264: "H.264", h265: "H.265", opus: "Opus" }[name?.toLowerCase()] ?? name?.toUpperCase() ?? NONE;
};
const time = (value) => {
  if (value === null || value === undefined) return NONE;
  return value >= 999.5 ? `${number(value / 1000, 1)} s` : `${number(value, value < 9.95 ? 1 : 0)} ms`;
};

/** Write the figures of one second into a tile. `more`: {lag, muted, received}; lag in ms. */
export function renderFigures(tile, figures, more = {}) {
  const { video } = figures;
  const { own } = tile;
  const picture = [
    ["Resolution", size(video?.frameWidth, video?.frameHeight) || NONE],
    ["Frames/s", number(video?.framesPerSecond)],
    ["Bitrate", bitrate(figures.bitrate)],
  ];
  list(tile.find(".figures"), [
    ...(video ? picture : []),
    own ? ["Round trip", time(figures.rtt)] : ["Delay", time(delay(figures, more.lag ?? 0)), "From the node to your eye: half the round trip, the receive buffer, decoding, and the delay you chose"],
    ["Sound", figures.audio ? (more.muted ? "muted" : bitrate(figures.audio.bitrate)) : "none"],
    ["Loss", loss(figures)],
  ]);
  if (own) sizes(tile.find(".sizes"), video?.layers ?? [], more.received ?? []);
  spark(tile, figures.bitrate);
  if (!tile.find(".more").open) return;
  list(tile.find(".long"), own ? sentRows(figures) : receivedRows(figures));
  tile.find(".layers").replaceChildren(...layerTable(video?.layers ?? []));
}

const loss = ({ video, audio }) => {
  const value = (video ?? audio)?.loss ?? null;
  return value === null ? NONE : `${number(value, 1)} %`;
};

/** Milliseconds from the node to the eye or ear, null while they are not known. */
function delay({ video, audio, rtt }, lag) {
  const main = video?.framesDecoded ? video : audio;
  return main && rtt !== null ? lag + rtt / 2 + main.bufferDelay + (main.decodeDelay ?? 0) : null;
}

/**
 * The publisher's own layers, one beside the other; a single one is told by the figures. Bitrates are those that the node
 * receives, where it tells: Firefox counts its probes, up to 1 Mbit/s of padding, as bytes of the smallest layer.
 */
function sizes(target, layers, received) {
  const rate = ({ rid, bitrate }) => received.find((one) => one.rid === rid)?.bitrate ?? bitrate;
  const texts = layers.length < 2 ? [] : layers.map((layer, i) =>
    layerText({ width: layer.frameWidth, height: layer.frameHeight, bitrate: rate(layer), active: layer.active !== false && layer.framesPerSecond !== 0 }, i));
  target.hidden = !texts.length;
  if (target.childElementCount !== texts.length) target.replaceChildren(...texts.map(() => element("li")));
  texts.forEach((text, i) => { if (target.children[i].textContent !== text) target.children[i].textContent = text; });
}

function receivedRows({ video, audio, route, rtt }) {
  return [
    ["Codec", video && codecName(video.codec)],
    ["Round trip", time(rtt)],
    ["NACK", video && number(video.nackCount ?? 0)],
    ["PLI", video && number(video.pliCount)],
    ["Frames decoded", video && number(video.framesDecoded)],
    ["Frames dropped", video && number(video.framesDropped)],
    ["Keyframes", video && number(video.keyFramesDecoded)],
    ["Freezes", video && `${number(video.freezeCount)} (${number(video.totalFreezesDuration, 1)} s)`],
    ["Video buffer", video && time(video.bufferDelay)],
    ["Video jitter", video && time(video.jitterMs)],
    ["Video packets lost", video && number(video.packetsLost)],
    ["Repaired by RTX", video && number(video.retransmittedPacketsReceived ?? 0)],
    ["Video bitrate", video && bitrate(video.bitrate)],
    ["Audio bitrate", audio && bitrate(audio.bitrate)],
    ["Audio codec", audio && codecName(audio.codec)],
    ["Audio packets lost", audio && number(audio.packetsLost)],
    ["Decoder", video?.decoderImplementation],
    ["Path", route],
  ];
}

function sentRows({ video, audio, route, available }) {
  return [
    ["Codec", video && codecName(video.codec)],
    ["NACK", video && number(video.nackCount ?? 0)],
    ["PLI", video && number(video.pliCount)],
    ["Frames encoded", video && number(video.framesEncoded)],
    ["Keyframes", video && number(video.keyFramesEncoded)],
    ["Limited by", video?.qualityLimitationReason],
    ["Estimated uplink", available && bitrate(available)],
    ["Packets lost", video && number(video.packetsLost)],
    ["Sent again", video && number(video.retransmittedPacketsSent)],
    ["FIR", video && number(video.firCount)],
    ["RTT by RTCP", time((video ?? audio)?.remoteRtt)],
    ["Audio bitrate", audio && bitrate(audio.bitrate)],
    ["Audio codec", audio && codecName(audio.codec)],
    ["Encoder", video?.encoderImplementation],
    ["Scalability", video?.scalabilityMode],
    ["Path", route],
  ];
}

function layerTable(layers) {
  if (layers.length < 2) return [];
  const row = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, { textContent: cell })));
  const rows = layers.map((layer, i) => row("td", [
    size(layer.frameWidth, layer.frameHeight) || `Layer ${i + 1}`, number(layer.framesPerSecond), bitrate(layer.bitrate),
    number(layer.nackCount ?? 0), number(layer.pliCount ?? 0),
  ]));
  const head = row("th", ["Layer", "Fr./s", "Bitrate", "NACK", "PLI"]);
  return [element("table", {}, element("caption", { className: "hidden", textContent: "Simulcast layers" }), element("thead", {}, head), element("tbody", {}, ...rows))];
}

/** Fill a definition list; nodes are kept between seconds so that a reader can select the text. */
function list(target, rows) {
  const shown = rows.filter(([, value]) => value);
  if (target.childElementCount !== shown.length) target.replaceChildren(...shown.map(() => element("div", {}, element("dt"), element("dd"))));
  shown.forEach(([label, value, title = ""], i) => {
    const [term, definition] = target.children[i].children;
    if (term.textContent !== label) term.textContent = label;
    if (definition.textContent !== value) definition.textContent = value;
    if (term.title !== title) term.title = title;
  });
}

function spark(tile, value) {
  const history = histories.get(tile) ?? [];
  if (value !== null) history.push(value);
  if (history.length > HISTORY) history.shift();
  histories.set(tile, history);
  const top = Math.max(...history, 1);
  const x = (i) => 120 - (history.length - 1 - i) * (120 / (HISTORY - 1));
  tile.find(".spark polyline").setAttribute("points", history.map((v, i) => `${x(i).toFixed(1)},${(22.5 - (21 * v) / top).toFixed(1)}`).join(" "));
}
