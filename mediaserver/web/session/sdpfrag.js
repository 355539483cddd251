// Why: WHIP and WHEP carry ICE changes as small pieces of SDP (RFC 8840, used by RFC 9725 section 4.3) and list
// their helpers in Link headers (RFC 8288). These are pure functions on text, apart from any connection.

const lines = (sdp) => sdp.split(/\r?\n/).filter((line) => line !== "");
const values = (sdp, prefix) => lines(sdp).filter((line) => line.startsWith(prefix));

/** The first media section of an SDP: with BUNDLE it holds the only ICE credentials and candidates. */
function firstMedia(sdp) {
  const all = lines(sdp);
  const start = all.findIndex((line) => line.startsWith("m="));
  const rest = all.findIndex((line, i) => i > start && line.startsWith("m="));
  return all.slice(start, rest < 0 ? undefined : rest);
}

/** A fragment with the credentials in `sdp` and the given candidate lines (`candidate:…`, without `a=`). */
export function makeFragment(sdp, candidates = [], complete = true) {
  const media = firstMedia(sdp);
  const keep = (prefix) => media.find((line) => line.startsWith(prefix));
  const head = [values(sdp, "a=group:BUNDLE")[0], media[0], keep("a=mid:"), keep("a=ice-ufrag:"), keep("a=ice-pwd:")];
  const tail = candidates.map((candidate) => `a=${candidate}`);
  if (complete) tail.push("a=end-of-candidates");
  return [...head.filter(Boolean), ...tail].join("\r\n") + "\r\n";
}

/** The earlier answer with the credentials and candidates of a fragment that answers an ICE restart. */
export function mergeFragment(answer, fragment) {
  const ufrag = values(fragment, "a=ice-ufrag:")[0];
  const pwd = values(fragment, "a=ice-pwd:")[0];
  if (!ufrag || !pwd) throw new Error("the answer to the ICE restart has no credentials");
  const candidates = values(fragment, "a=candidate:");
  const merged = [];
  for (const line of lines(answer)) {
    if (/^a=(candidate:|end-of-candidates)/.test(line)) continue;
    else if (line.startsWith("a=ice-ufrag:")) merged.push(ufrag);
    else if (line.startsWith("a=ice-pwd:")) merged.push(pwd);
    else merged.push(line);
  }
  const second = merged.findIndex((line, i) => line.startsWith("m=") && i > merged.findIndex((l) => l.startsWith("m=")));
  merged.splice(second < 0 ? merged.length : second, 0, ...candidates);
  return merged.join("\r\n") + "\r\n";
}

const LINK = /<([^>]*)>((?:\s*;\s*[\w*-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))?)*)/g;
const PARAMETER = /;\s*([\w*-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+)))?/g;

/** Parse a Link header to [{target, rel, …parameters}]. */
export function parseLinks(header) {
  return [...(header ?? "").matchAll(LINK)].map(([, target, rest]) => {
    const link = { target };
    for (const [, name, quoted, bare] of rest.matchAll(PARAMETER)) {
      link[name.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "";
    }
    return link;
  });
}

/** The ICE servers among links, as RTCIceServer objects. */
export function iceServers(links) {
  return links
    .filter((link) => link.rel === "ice-server")
    .map(({ target, username, credential }) =>
      username === undefined ? { urls: target } : { urls: target, username, credential });
}
