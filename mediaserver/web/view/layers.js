// Why: a layer is known to people by what they see of it, its size and its bitrate, and never by the letter that a
// publisher gave it. The menu, the publisher's own list and the table of figures all say it in these words.

/** A bitrate in bit/s as text. */
export function bitrate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 999_500 ? `${(value / 1e6).toFixed(1)} Mbit/s` : `${Math.round(value / 1000)} kbit/s`;
}

/** A picture's size as text; empty while it is not known. */
export const size = (width, height) => (width && height ? `${width}×${height}` : "");

/** "1280×720, 1.1 Mbit/s"; `place` is its number among its layers, for those that have not told their size. */
export function layerText({ width, height, bitrate: rate, active = true }, place) {
  const facts = [size(width, height) || `Layer ${place + 1}`];
  if (!active) facts.push("not sent");
  else if (rate) facts.push(bitrate(rate));
  return facts.join(", ");
}
