// Why: WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) differ only in who sends. Both post an offer, get an answer
// and a session resource, trickle or restart ICE by PATCH and end by DELETE. That common part is here.

import { Problem, problemFrom } from "./problem.js";
import { iceServers, makeFragment, mergeFragment, parseLinks } from "./sdpfrag.js";

const CONNECT_TIMEOUT = 15_000; // ms from answer to media path; browsers themselves take up to 30 s to give up
const DISCONNECT_GRACE = 2_500; // ms that a "disconnected" path may heal by itself before ICE is restarted

/**
 * One session of a peer connection at a server.
 *
 * Events: `connected`; `interrupted` (the path is being repaired); `lost` (detail: Problem; the session is over).
 */
export class HttpSession extends EventTarget {
  #candidates = [];
  #timer = 0;
  #repairing = false;

  constructor({ url, token = "", configuration = {} }) {
    super();
    this.url = new URL(url, document.baseURI);
    this.token = token;
    this.resource = null;
    this.etag = null;
    this.links = [];
    this.closed = false;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", ...configuration });
    this.pc.addEventListener("icecandidate", ({ candidate }) => this.#gathered(candidate));
    this.pc.addEventListener("connectionstatechange", () => this.#stateChanged());
  }

  /** Fetch with the bearer token; throws a Problem unless the answer is 2xx. */
  async request(method, url, { body, type, headers = {}, ...rest } = {}) {
    const all = { ...headers };
    if (type) all["Content-Type"] = type;
    if (this.token) all.Authorization = `Bearer ${this.token}`;
    let response;
    try {
      response = await fetch(url, { method, body, headers: all, cache: "no-store", ...rest });
    } catch (cause) {
      if (cause.name === "AbortError") throw cause;
      throw new Problem("The server can't be reached", `No answer from ${new URL(url).host}.`, { cause });
    }
    if (!response.ok) throw await problemFrom(response);
    return response;
  }

  /** Send the offer, take the answer. The offer leaves before gathering, so ICE servers in Link headers still count. */
  async negotiate() {
    const offer = await this.#offer();
    const response = await this.request("POST", this.url, { body: offer.sdp, type: "application/sdp" });
    const location = response.headers.get("Location");
    if (!location) throw new Problem("The server's answer is incomplete", "It has no Location header.");
    this.resource = new URL(location, response.url);
    this.etag = response.headers.get("ETag");
    this.links = parseLinks(response.headers.get("Link"));
    const answer = await response.text();
    if (this.closed) return void this.#release();
    try {
      const servers = iceServers(this.links);
      if (servers.length) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers: servers });
      await this.pc.setLocalDescription(offer);
      await this.pc.setRemoteDescription({ type: "answer", sdp: answer });
    } catch (cause) {
      this.close();
      throw new Problem("The server's answer can't be used", cause.message, { cause });
    }
    this.#watchDtls();
    this.#arm(CONNECT_TIMEOUT, () => this.#lose("No media path", "The server answered, but no UDP packets came through."));
  }

  /** The resolved address of the first link with this relation, or null. */
  link(relation) {
    const found = this.links.find(({ rel }) => rel === relation);
    return found ? new URL(found.target, this.resource) : null;
  }

  async #offer(options) {
    const { type, sdp } = await this.pc.createOffer(options);
    return { type, sdp: this.wish(sdp) };
  }

  /** What an offer says beyond what the browser has put into it. */
  wish(sdp) {
    return sdp;
  }

  /** New ICE credentials on the same session (RFC 9725 section 4.3.3): survives a change of network. */
  async restartIce() {
    this.#candidates = [];
    const offer = await this.#offer({ iceRestart: true });
    await this.pc.setLocalDescription(offer);
    try {
      const response = await this.#patch(makeFragment(offer.sdp, [], false), "*");
      if (response.status !== 200) throw new Error("the server did not restart ICE");
      this.etag = response.headers.get("ETag") ?? this.etag;
      const sdp = mergeFragment(this.pc.currentRemoteDescription.sdp, await response.text());
      await this.pc.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      if (this.pc.signalingState === "have-local-offer") await this.pc.setLocalDescription({ type: "rollback" });
      throw error;
    }
  }

  /** End the session at both sides. Safe to call at any time, and while the page is being left. */
  close() {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.#timer);
    this.pc.close();
    this.#release();
  }

  #release() {
    if (!this.resource) return;
    this.request("DELETE", this.resource, { keepalive: true }).catch(() => {});
    this.resource = null;
  }

  #patch(fragment, match) {
    const headers = match ? { "If-Match": match } : {};
    return this.request("PATCH", this.resource, { body: fragment, type: "application/trickle-ice-sdpfrag", headers });
  }

  /** A full agent needs our candidates; a lite one learns them from our checks, so nothing is sent to it. */
  async #gathered(candidate) {
    if (candidate?.candidate) this.#candidates.push(candidate.candidate);
    const remote = this.pc.remoteDescription?.sdp ?? "";
    if (candidate || !this.resource || /^a=ice-lite/m.test(remote)) return;
    const fragment = makeFragment(this.pc.localDescription.sdp, this.#candidates);
    await this.#patch(fragment, this.etag).catch(() => {}); // 405 or 501: a server without trickle can still connect
  }

  /** A server that ends a session says so by a DTLS alert, seconds before ICE would find out. */
  #watchDtls() {
    const [first] = this.pc.getTransceivers();
    const transport = first?.sender.transport ?? first?.receiver.transport;
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed") this.#lose("The server ended the session", "It may be restarting.");
    });
  }

  #stateChanged() {
    const state = this.pc.connectionState;
    if (this.closed) return;
    if (state === "connected") {
      clearTimeout(this.#timer);
      this.#repairing = false;
      this.dispatchEvent(new Event("connected"));
    } else if (state === "disconnected") {
      this.#arm(DISCONNECT_GRACE, () => this.#repair());
      this.dispatchEvent(new Event("interrupted"));
    } else if (state === "failed") this.#repair();
  }

  async #repair() {
    if (this.closed) return;
    if (this.#repairing) return this.#lose("The connection was lost", "The network path to the server ended.");
    this.#repairing = true;
    this.dispatchEvent(new Event("interrupted"));
    this.#arm(CONNECT_TIMEOUT / 2, () => this.#lose("The connection was lost", "The network path did not come back."));
    await this.restartIce().catch((error) =>
      this.#lose("The connection was lost", error.status === 404 ? "The server has ended this session." : error.message));
  }

  #arm(delay, action) {
    clearTimeout(this.#timer);
    if (!this.closed) this.#timer = setTimeout(action, delay);
  }

  #lose(title, detail) {
    if (this.closed) return;
    this.close();
    this.dispatchEvent(new CustomEvent("lost", { detail: new Problem(title, detail) }));
  }
}
