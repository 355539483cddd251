// Why: how a picture is heard and shown is each reader's own matter: mute, volume, picture in picture, full screen. What
// a browser can't do is not offered.

import { element, icon } from "./dom.js";

/** False on iPhones, where a page can't set the volume. */
function volumeCanBeSet(video) {
  const before = video.volume;
  video.volume = 0.5;
  const can = video.volume === 0.5;
  video.volume = before;
  return can;
}

/** The sound of one tile: a button that unmutes, or one that mutes beside a slider. */
export class Hearing {
  constructor(tile, identity, { onchange = () => {} } = {}) {
    this.video = tile.video;
    this.onchange = onchange;
    this.unmute = element("button", { type: "button", className: "unmute", "aria-label": `Unmute ${identity}` }, icon("silent"), "Unmute");
    this.mute = element("button", { type: "button", className: "silence", title: "Mute", "aria-label": `Mute ${identity}` }, icon("speaker"));
    this.volume = element("input", { type: "range", className: "volume", min: 0, max: 100, value: 100, "aria-label": `Volume of ${identity}` });
    this.loud = element("div", { className: "loud" }, this.mute);
    if (volumeCanBeSet(this.video)) this.loud.append(this.volume);
    this.unmute.addEventListener("click", () => this.#press(false, this.mute));
    this.mute.addEventListener("click", () => this.#press(true, this.unmute));
    this.volume.addEventListener("input", () => { this.video.volume = this.volume.valueAsNumber / 100; });
    tile.find(".hearing").append(this.unmute, this.loud);
    this.set(true);
  }

  get muted() {
    return this.video.muted;
  }

  /** Mute or unmute. A browser that wants a press first leaves it muted. */
  async set(muted) {
    this.#apply(muted);
    if (muted || !this.video.srcObject) return;
    try {
      await this.video.play();
    } catch (error) {
      if (error.name === "NotAllowedError") this.#apply(true);
      this.video.play().catch(() => {}); // without sound it may
    }
  }

  #press(muted, next) {
    this.set(muted);
    next.focus();
  }

  #apply(muted) {
    this.video.muted = muted;
    this.unmute.hidden = !muted;
    this.loud.hidden = muted;
    this.onchange();
  }
}

export function addPictureInPicture(tile) {
  const { video } = tile;
  if (document.pictureInPictureEnabled && video.requestPictureInPicture) {
    tile.addButton("inset", "Picture in picture", () => {
      if (document.pictureInPictureElement === video) document.exitPictureInPicture();
      else video.requestPictureInPicture().catch(() => {}); // there is no picture yet
    });
  } else if (video.webkitSupportsPresentationMode?.("picture-in-picture")) {
    tile.addButton("inset", "Picture in picture", () =>
      video.webkitSetPresentationMode(video.webkitPresentationMode === "inline" ? "picture-in-picture" : "inline"));
  }
}

export function addFullscreen(tile) {
  const picture = tile.find(".picture");
  if (!picture.requestFullscreen && !tile.video.webkitEnterFullscreen) return;
  tile.addButton("full", "Full screen", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (picture.requestFullscreen) picture.requestFullscreen().catch(() => {});
    else tile.video.webkitEnterFullscreen(); // iPhones fill the screen with the video element alone
  });
}
