// Why: publishers and watchers look the same: a picture with its state, its buttons, its errors and its figures.
// A Tile is that view and knows nothing of connections.

import { element, icon, showProblem } from "./dom.js";
import { renderFigures } from "./figures.js";

const STATES = {
  starting: "Starting", connecting: "Connecting", live: "Live", waiting: "Waiting", repairing: "Reconnecting", ended: "Ended",
};

export class Tile {
  constructor(parent, { name, mark = "", own = false }) {
    this.root = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.video = this.find("video");
    this.root.setAttribute("aria-label", own ? `${name}, published from here` : name);
    this.video.setAttribute("aria-label", `Picture of ${name}`);
    this.find(".name").textContent = name;
    this.find(".initial").textContent = [...name][0]?.toUpperCase() ?? "?";
    this.find(".mark").textContent = mark;
    this.find(".mark").hidden = !mark;
    this.root.classList.toggle("own", own);
    this.video.addEventListener("resize", () => this.#pictured());
    this.video.addEventListener("emptied", () => this.#pictured());
    parent.append(this.root);
    document.body.classList.add("busy");
  }

  #pictured() {
    this.root.classList.toggle("pictured", this.video.videoWidth > 0);
  }

  /** `state` is a key of STATES; `notice` explains it over the picture. */
  setState(state, notice = "") {
    if (this.root.dataset.state === state && this.find(".notice").textContent === notice) return; // screen readers speak changes
    this.root.dataset.state = state;
    this.find(".state").textContent = STATES[state];
    this.find(".notice").textContent = notice;
    this.root.classList.toggle("noted", notice !== "");
  }

  setProblem(problem, action) {
    showProblem(this.find(".alert"), problem, action);
  }

  setFigures(figures) {
    this.root.classList.add("measured");
    renderFigures(this, figures);
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

  addFullscreen() {
    const picture = this.find(".picture");
    if (!picture.requestFullscreen && !this.video.webkitEnterFullscreen) return;
    this.addButton("full", "Full screen", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (picture.requestFullscreen) picture.requestFullscreen().catch(() => {});
      else this.video.webkitEnterFullscreen(); // iPhones fill the screen with the video element alone
    });
  }

  remove() {
    this.video.srcObject = null;
    const parent = this.root.parentElement;
    this.root.remove();
    document.body.classList.toggle("busy", Boolean(parent?.childElementCount));
  }
}
