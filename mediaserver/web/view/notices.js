// Why: what a tile says of somebody depends on three things: what the node says of picture and sound, what really
// arrives, and whether they have been here before. One function decides, so that a later event can't cover the reason of
// an earlier one: a picture that can't be shown stays explained while the sound goes on.

/**
 * `told`: {video, audio}, each {state, reason, notice} as the node's events say ("active", "waiting", "no-media", "codec", "full"),
 * or undefined. `flows`: {video, audio}, true while it arrives. `seen`: something of them has arrived before.
 * Gives {state, notice, gone}: a state of Tile, the text over the picture, and whether they are not here.
 */
export function tell(identity, { told, flows, seen }) {
  const { video, audio } = told;
  if (flows.video) return { state: "live", notice: "", gone: false };
  const gone = video?.state === "waiting" && audio?.state === "waiting";
  if (gone) return { state: "waiting", notice: seen ? `${identity} has left; will go on when ${identity} returns` : `${identity} is not here yet; will start when ${identity} comes`, gone };
  if (video?.reason) {
    const notice = `No picture of ${identity}. ${video.reason}${flows.audio ? " The sound goes on." : ""}`;
    return { state: flows.audio ? "live" : "waiting", notice, gone };
  }
  if (flows.audio) return { state: "live", notice: soundOnly(video?.state, seen), gone };
  if (video?.state === "active" || audio?.state === "active") return { state: "waiting", notice: seen ? `Nothing arrives from ${identity} just now` : "Waiting for the picture", gone };
  return { state: "waiting", notice: `${identity} is not sending`, gone };
}

function soundOnly(state, seen) {
  if (seen === "video" && ["active", "no-media"].includes(state)) return "The picture has stopped; the sound goes on";
  return state === "active" ? "Waiting for the picture; the sound goes on" : "Sound only";
}

/**
 * What is to be said below the picture: no sound, pictures out of order, a decoder that promised less; empty when nothing is.
 * `told` as above, with {notice} where the node has doubts; `info`: the participant at /api/rooms.
 */
export function hint(identity, told, flows, info) {
  const said = [];
  if (flows.video && told.audio?.reason) said.push(`No sound of ${identity}. ${told.audio.reason}`);
  if (runsBackwards(info)) said.push(`${identity} sends pictures out of order (B-frames): most of the pictures are lost on the way. Switch B-frames off in the encoder.`);
  return [...said, told.video?.notice, told.audio?.notice].filter(Boolean).join(" ");
}

/** True when the node has found time running backwards in a layer of this participant. */
export const runsBackwards = (info) => Boolean(info?.tracks?.some(({ layers = [] }) => layers.some((layer) => layer.time_runs_backwards)));
