// Why: who is on air, what they send and how many watch is asked of the node in one place, every 2 s while somebody looks.
// The list of people, the tiles and "Watch everyone" all live on the same answer. A server that keeps it to itself (401,
// 403) leaves typed names, and is asked less often.

import { problemFrom } from "./session/problem.js";

const POLL = 2_000; // ms
const POLL_REFUSED = 15_000; // ms

export class Rooms {
  #timer = 0;

  /**
   * `ask()` gives {token, room}, `room` empty for all rooms; `needed()` is true when the answer matters to a hidden page;
   * `onrooms` gets [{name, participants}] of those who publish something; `onproblem` a Problem, or another Error.
   */
  constructor({ ask, needed, onrooms, onproblem }) {
    Object.assign(this, { ask, needed, onrooms, onproblem });
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.poll());
  }

  /** Ask now, and again later. */
  async poll() {
    clearTimeout(this.#timer);
    let wait = POLL;
    if (document.visibilityState === "visible" || this.needed()) {
      try {
        this.onrooms(await this.#fetch());
      } catch (error) {
        if (error.status === 401 || error.status === 403) wait = POLL_REFUSED;
        this.onproblem(error);
      }
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.poll(), wait);
  }

  async #fetch() {
    const { token, room } = this.ask();
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(room ? `api/rooms?${new URLSearchParams({ room })}` : "api/rooms", { headers, cache: "no-store" });
    if (!response.ok) throw await problemFrom(response);
    const { rooms = [] } = await response.json();
    const sending = ({ tracks = [] }) => tracks.length > 0;
    return rooms
      .map(({ name, participants = [] }) => ({ name, participants: participants.filter(sending) }))
      .filter(({ participants }) => participants.length);
  }
}

/** One participant of an answer, or undefined. */
export const find = (rooms, room, identity) =>
  rooms.find(({ name }) => name === room)?.participants.find((one) => one.identity === identity);
