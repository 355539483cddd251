// Why: getStats gives counters of many objects; people and tests want figures of one second. A Meter keeps the last
// reading and turns two readings into rates; what only one reading knows has no rate yet, which is null and not 0. Names
// are those of W3C webrtc-stats; rates are per second, bitrates bit/s.

const percent = (part, whole) => (whole > 0 ? (100 * part) / whole : 0);
/** Loss as the far end reports it, null before it does. */
const reported = (remote) => (remote?.fractionLost === undefined ? null : 100 * remote.fractionLost);
const rounded = (value) => (value === null ? null : Math.round(value));
const sum = (items, key) => items.reduce((total, item) => total + (item[key] ?? 0), 0);

/** A rate of several streams: null while that of one of them is not known. */
const sumRates = (rates) => (rates.length && rates.every((rate) => rate !== null) ? rates.reduce((a, b) => a + b) : null);

export class Meter {
  #pc;
  #last = new Map();

  constructor(pc) {
    this.#pc = pc;
  }

  /** Figures since the last call: {rtt, bitrate, available, route, video, audio}; rtt in ms, loss in percent. */
  async read() {
    const report = await this.#pc.getStats();
    const all = [...report.values()];
    const pair = selectedPair(report, all);
    const streams = (type) => all.filter((stat) => stat.type === type).map((stat) => this.#rates(stat, report));
    const inbound = streams("inbound-rtp");
    const outbound = streams("outbound-rtp");
    this.#last = report;
    return {
      at: Date.now(),
      rtt: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
      available: pair?.availableOutgoingBitrate ?? null,
      route: pair ? route(report, pair) : null,
      bitrate: sumRates([...inbound, ...outbound].map(({ bitrate }) => bitrate)),
      video: merge([...inbound, ...outbound].filter(({ kind }) => kind === "video")),
      audio: merge([...inbound, ...outbound].filter(({ kind }) => kind === "audio")),
    };
  }

  /** One RTP stream with rates over the last interval, its codec's name, and the far end's view of it. */
  #rates(stat, report) {
    const before = this.#last.get(stat.id);
    const seconds = before ? (stat.timestamp - before.timestamp) / 1000 : 0;
    const change = (key) => Math.max(0, (stat[key] ?? 0) - (before?.[key] ?? 0));
    const rate = (key, unit = 1) => (seconds > 0 ? (unit * change(key)) / seconds : null);
    const received = stat.type === "inbound-rtp";
    const remote = stat.remoteId ? report.get(stat.remoteId) : undefined;
    return {
      ...stat,
      codec: report.get(stat.codecId)?.mimeType?.split("/")[1] ?? null,
      bitrate: rate(received ? "bytesReceived" : "bytesSent", 8),
      framesPerSecond: rounded(rate(received ? "framesDecoded" : "framesEncoded")),
      loss: received ? percent(change("packetsLost"), change("packetsLost") + change("packetsReceived")) : reported(remote),
      packetsLost: (received ? stat.packetsLost : remote?.packetsLost) ?? 0,
      bufferDelay: 1000 * (change("jitterBufferDelay") / (change("jitterBufferEmittedCount") || 1)),
      decodeDelay: 1000 * (change("totalDecodeTime") / (change("framesDecoded") || 1)),
      jitterMs: 1000 * ((received ? stat.jitter : remote?.jitter) ?? 0),
      remoteRtt: remote?.roundTripTime === undefined ? null : 1000 * remote.roundTripTime,
    };
  }
}

function selectedPair(report, all) {
  const transport = all.find(({ type, selectedCandidatePairId }) => type === "transport" && selectedCandidatePairId);
  return report.get(transport?.selectedCandidatePairId)
    ?? all.find(({ type, nominated, state }) => type === "candidate-pair" && nominated && state === "succeeded");
}

function route(report, pair) {
  const local = report.get(pair.localCandidateId);
  const remote = report.get(pair.remoteCandidateId);
  if (!local || !remote) return null;
  return `${local.protocol ?? "udp"} ${local.candidateType} → ${remote.candidateType} :${remote.port ?? "?"}`;
}

/** The streams of one kind as one: the largest speaks for sizes and frames, counters add up, `layers` keeps them all. */
function merge(streams) {
  if (!streams.length) return null;
  const layers = [...streams].sort((a, b) => (b.frameWidth ?? 0) - (a.frameWidth ?? 0) || b.bitrate - a.bitrate);
  const [first] = layers.filter(({ active }) => active !== false);
  const top = first ?? layers[0];
  const total = (key) => sum(layers, key);
  const known = layers.map(({ loss }) => loss).filter((loss) => loss !== null);
  return {
    ...top,
    layers,
    codec: layers.find(({ codec }) => codec)?.codec ?? null,
    bitrate: sumRates(layers.map(({ bitrate }) => bitrate)),
    loss: known.length ? Math.max(...known) : null,
    packetsLost: total("packetsLost"),
    nackCount: total("nackCount"),
    pliCount: total("pliCount"),
    firCount: total("firCount"),
    retransmittedPacketsSent: total("retransmittedPacketsSent"),
    retransmittedPacketsReceived: total("retransmittedPacketsReceived"),
  };
}
