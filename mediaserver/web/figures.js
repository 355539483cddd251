// Why: one place that says how figures are written, so that every tile reads alike. It renders what Meter measured.

import { element } from "./dom.js";

const NONE = "–";
const HISTORY = 60; // seconds of bitrate in the small graph
const histories = new WeakMap();

const number = (value, digits = 0) => (value === null || value === undefined || Number.isNaN(value) ? NONE : value.toFixed(digits));

/** A codec as people write it; takes "H264", "opus" or a MIME type. */
export const codecName = (codec) => {
  const name = codec?.split("/").pop();
  return { h264: "H.264", h265: "H.265", opus: "Opus" }[name?.toLowerCase()] ?? name?.toUpperCase() ?? NONE;
};
const size = (width, height) => (width ? `${width}×${height}` : NONE);
const time = (value) => (value === null || value === undefined ? NONE : `${number(value, value < 10 ? 1 : 0)} ms`);

/** A bitrate in bit/s as text. */
export function bitrate(value) {
  if (value === null || value === undefined) return NONE;
  return value >= 999_500 ? `${(value / 1e6).toFixed(2)} Mbit/s` : `${Math.round(value / 1000)} kbit/s`;
}

/** Write the figures of one second into a tile. */
export function renderFigures(tile, figures) {
  const { video, audio } = figures;
  const main = video ?? audio;
  list(tile.find(".figures"), [
    ["Resolution", video ? size(video.frameWidth, video.frameHeight) : NONE],
    ["Frames/s", video ? number(video.framesPerSecond) : NONE],
    ["Bitrate", bitrate(figures.bitrate)],
    ["Codec", main ? codecName(main.codec) : NONE],
    ["RTT", time(figures.rtt)],
    ["Loss", main ? `${number(main.loss, 1)} %` : NONE],
    ["NACK", main ? number(main.nackCount ?? 0) : NONE],
    ["PLI", video ? number(video.pliCount) : NONE],
  ]);
  spark(tile, figures.bitrate);
  if (!tile.find(".more").open) return;
  list(tile.find(".long"), tile.root.classList.contains("own") ? sentRows(figures) : receivedRows(figures));
  tile.find(".layers").replaceChildren(...layerTable(video?.layers ?? []));
}

function receivedRows({ video, audio, route }) {
  return [
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
  const rows = layers.map((layer) => row("td", [
    layer.rid ?? NONE, size(layer.frameWidth, layer.frameHeight), number(layer.framesPerSecond), bitrate(layer.bitrate),
    number(layer.nackCount ?? 0), number(layer.pliCount ?? 0),
  ]));
  const head = row("th", ["Layer", "Size", "Fr./s", "Bitrate", "NACK", "PLI"]);
  return [element("table", {}, element("caption", { className: "hidden", textContent: "Simulcast layers" }), element("thead", {}, head), element("tbody", {}, ...rows))];
}

/** Fill a definition list; nodes are kept between seconds so that a reader can select the text. */
function list(target, rows) {
  const shown = rows.filter(([, value]) => value);
  if (target.childElementCount !== shown.length) target.replaceChildren(...shown.map(() => element("div", {}, element("dt"), element("dd"))));
  shown.forEach(([label, value], i) => {
    const [term, definition] = target.children[i].children;
    if (term.textContent !== label) term.textContent = label;
    if (definition.textContent !== value) definition.textContent = value;
  });
}

function spark(tile, value) {
  const history = histories.get(tile) ?? [];
  history.push(value);
  if (history.length > HISTORY) history.shift();
  histories.set(tile, history);
  const top = Math.max(...history, 1);
  const x = (i) => 120 - (history.length - 1 - i) * (120 / (HISTORY - 1));
  tile.find(".spark polyline").setAttribute("points", history.map((v, i) => `${x(i).toFixed(1)},${(22.5 - (21 * v) / top).toFixed(1)}`).join(" "));
}
