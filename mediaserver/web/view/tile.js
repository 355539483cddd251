// Why: publishers and watchers look the same: a picture with its state, its sound, its buttons, its errors and its
// figures. A Tile is that view and knows nothing of connections.

import { element, icon, showProblem } from "./dom.js";
import { renderFigures } from "./figures.js";
import { SoundMeter } from "./sound.js";

const STATES = {
  starting: "Starting", connecting: "Connecting", live: "Live", waiting: "Waiting", repairing: "Reconnecting", ended: "Ended",
};

export class Tile {
  constructor(parent, { name, mark = "", own = false }) {
    this.root = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.video = this.find("video");
    this.own = own;
    this.root.setAttribute("aria-label", own ? `${name}, published from here` : name);
    this.video.setAttribute("aria-label", `Picture of ${name}`);
    this.find(".name").textContent = this.find(".name").title = name; // a long one is shown in part
    this.find(".initial").textContent = [...name][0]?.toUpperCase() ?? "?";
    this.find(".sound").setAttribute("aria-label", `Sound of ${name}`);
    this.sound = new SoundMeter(this.find(".sound"));
    this.setMark(mark);
    this.root.classList.toggle("own", own);
    this.video.addEventListener("resize", () => this.#pictured());
    this.video.addEventListener("emptied", () => this.#pictured());
    parent.append(this.root);
    document.body.classList.add("busy");
  }

  #pictured() {
    this.root.classList.toggle("pictured", this.video.videoWidth > 0);
  }

  /** `state` is a key of STATES; `notice` explains it over the picture; `gone` hides a picture that would stand still. */
  setState(state, notice = "", gone = false) {
    this.root.classList.toggle("gone", gone);
    if (this.root.dataset.state === state && this.find(".notice").textContent === notice) return; // screen readers speak changes
    this.root.dataset.state = state;
    this.find(".state").textContent = STATES[state];
    this.find(".notice").textContent = notice;
    this.root.classList.toggle("noted", notice !== "");
  }

  /** A few words beside the state, such as who watches. */
  setMark(text) {
    const mark = this.find(".mark");
    if (mark.textContent !== text) mark.textContent = text;
    mark.hidden = !text;
  }

  /** A sentence below the picture that is no error; empty hides it. */
  setHint(text) {
    const hint = this.find(".hint");
    if (hint.textContent !== text) hint.textContent = text;
    hint.hidden = !text;
  }

  setProblem(problem, action) {
    showProblem(this.find(".alert"), problem, action);
  }

  /** `more`: {lag, muted, received}, which the connection does not know. */
  setFigures(figures, more) {
    this.root.classList.add("measured");
    renderFigures(this, figures, more);
  }

  /** Add a round button to the bar; returns it. */
  addButton(name, label, run) {
    const button = element("button", { type: "button", className: "round", title: label, "aria-label": label, onclick: run }, icon(name));
    this.find(".actions").append(button);
    return button;
  }

  /** Add a round on/off button; `run` gets the new state and the button tells it to assistive technology. */
  addToggle(name, label, run) {
    const button = this.addButton(name, label, () => {
      const off = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(off));
      run(off);
    });
    button.setAttribute("aria-pressed", "false");
    return button;
  }

  remove() {
    this.sound.close();
    this.video.srcObject = null;
    const parent = this.root.parentElement;
    this.root.remove();
    document.body.classList.toggle("busy", Boolean(parent?.childElementCount));
  }
}
