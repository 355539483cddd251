// Why: a call of several people works by publishing and watching all of them. This watches whoever is on air in a room,
// also those who come later, and clears away those who don't come back.

export const MOST = 24; // tiles: as many pictures as a common laptop decodes
export const AT_ONCE = 8; // joins begun together, the next after PAUSE: a node takes 20 at once and 5 a second from one address
export const PAUSE = 2_000; // ms: as long as between two looks at the rooms
const AWAY = 30_000; // ms after which the tile of somebody who has left goes too

export class Everyone {
  room = null;
  #declined = new Set(); // identities whose tile the reader has closed: not watched again before they come anew

  /**
   * `watch({room, identity})` begins a tile and gives its Watcher; `isOwn(room, identity)`: published from this page;
   * `isChosen(room, identity)`: the reader watches them by name, and goes on when this stops.
   */
  constructor({ watch, isOwn, isChosen = () => false, onchange = () => {} }) {
    Object.assign(this, { watch, isOwn, isChosen, onchange });
    this.watchers = new Map();
    this.left = 0; // people beyond MOST
  }

  start(room) {
    if (this.room !== null && this.room !== room) this.stop();
    this.room = room;
    this.#declined.clear();
    this.onchange();
  }

  /** Watch nobody any more whom the reader did not choose by name. */
  stop() {
    this.room = null;
    for (const watcher of [...this.watchers.values()]) watcher.stop();
    this.onchange();
  }

  /** A tile was closed, whoever closed it. */
  closed(watcher) {
    const { identity } = watcher.options;
    if (this.watchers.get(identity) !== watcher) return;
    this.watchers.delete(identity);
    this.#declined.add(identity);
  }

  /** What the node says of its rooms now, about every PAUSE. At most AT_ONCE tiles begin at each look, so that none is refused. */
  see(rooms) {
    if (this.room === null) return;
    const people = rooms.find(({ name }) => name === this.room)?.participants ?? [];
    const here = new Set(people.map(({ identity }) => identity));
    for (const watcher of [...this.watchers.values()]) {
      if (watcher.leftAt !== null && Date.now() - watcher.leftAt > AWAY && !here.has(watcher.options.identity)) watcher.stop();
    }
    for (const identity of this.#declined) if (!here.has(identity)) this.#declined.delete(identity);
    const wanted = [...here].filter((one) => !this.#declined.has(one) && !this.watchers.has(one) && !this.isOwn(this.room, one) && !this.isChosen(this.room, one));
    const fitting = wanted.slice(0, Math.max(0, MOST - this.watchers.size));
    for (const identity of fitting.slice(0, AT_ONCE)) {
      const watcher = this.watch({ room: this.room, identity });
      this.watchers.set(identity, watcher);
    }
    this.left = wanted.length - fitting.length;
    this.onchange();
  }
}
