// Why: what is published and how is decided in one form: source, devices, codec, with a preview before and a way to stop
// after. It stands for the participant that the fields name: while that one is on air from this page, it offers to stop.

import { bringsToken, on, query } from "./address.js";
import { Devices } from "./capture/devices.js";
import { Preview } from "./capture/preview.js";
import { sendCodecs, simulcastWorks, sizesOf } from "./session/whip.js";

const ARMING = 500; // ms after the page has come to the front in which a press may still have been meant for the page before

export class PublishForm {
  #arming = 0;
  #wantsSimulcast = on("simulcast", true);

  /**
   * `ready()` is true when room and name are filled in; `running()` gives the Publisher that the fields name, or undefined;
   * `publish(options)` starts one; `onproblem` gets what a preview throws, or null.
   */
  constructor(form, { ready, running, publish, onproblem }) {
    Object.assign(this, { form, ready, running, publish, onproblem });
    this.start = form.querySelector(".primary");
    this.stop = form.querySelector(".stop");
    this.previewButton = form.querySelector(".try");
    this.preview = new Preview(form.querySelector(".preview"));
    const { camera, microphone } = form.elements;
    this.devices = new Devices({ videoinput: camera, audioinput: microphone }, { onchoose: (kind, id) => this.#choose(kind, id) });
    this.#fill();
    form.addEventListener("submit", (event) => this.#submit(event));
    form.addEventListener("change", (event) => this.#changed(event.target));
    this.previewButton.addEventListener("click", () => this.#try());
    this.stop.addEventListener("click", () => { this.running()?.stop(); this.start.focus(); });
    addEventListener("focus", () => this.#disarm());
    this.#disarm();
    this.devices.refresh();
  }

  /** A link that wants something published: the form is filled in, and the reader decides. */
  offer(room, identity) {
    const note = this.form.querySelector(".asked");
    note.textContent = [
      `This link is for publishing to “${room}” as “${identity}”.`,
      bringsToken && "It brings an access token of its own, which replaces this tab’s.",
      "Nothing is sent before you press the button.",
    ].filter(Boolean).join(" ");
    note.hidden = false;
    this.start.focus();
  }

  get source() {
    return this.form.elements.source.value;
  }

  /** Show what can be done now: after a start, a stop, or another name in the fields. */
  update() {
    const publisher = this.running();
    const had = this.form.contains(document.activeElement);
    this.form.classList.toggle("on-air", Boolean(publisher));
    this.stop.hidden = !publisher;
    this.start.hidden = this.previewButton.hidden = Boolean(publisher);
    if (publisher) this.preview.close();
    if (publisher && had && document.activeElement === document.body) this.stop.focus(); // the pressed button has gone
    this.previewButton.textContent = this.preview.shown ? "Close" : "Preview";
    this.previewButton.setAttribute("aria-label", this.preview.shown ? "Close preview" : "Preview");
    this.#limit();
  }

  /** The devices of a capture that has begun, or changed. */
  captured(stream) {
    this.devices.refresh(stream);
  }

  #fill() {
    const { codec, resolution, sound, source } = this.form.elements;
    for (const option of codec.options) {
      option.disabled = !sendCodecs(option.value).length;
      if (option.disabled) option.textContent += " (not here)";
    }
    codec.value = [...codec.options].find(({ disabled }) => !disabled)?.value ?? "vp8";
    choose(codec, query.get("codec")?.toLowerCase().replace(".", ""));
    choose(resolution, query.get("resolution")?.replace(/p$/, ""));
    sound.checked = on("sound", true);
    if (["camera", "screen", "microphone"].includes(query.get("publish"))) source.value = query.get("publish");
  }

  #options() {
    const { codec, resolution, simulcast, sound } = this.form.elements;
    return {
      source: this.source,
      codec: codec.value,
      height: Number(resolution.value),
      simulcast: simulcast.checked,
      sound: sound.checked,
      camera: this.devices.chosen("video"),
      microphone: this.devices.chosen("audio"),
      scalabilityMode: query.get("scalability") ?? "",
    };
  }

  #submit(event) {
    event.preventDefault();
    if (this.start.hasAttribute("aria-disabled") || !this.ready() || this.running()) return;
    this.publish({ ...this.#options(), stream: this.preview.take() });
    this.update();
  }

  async #try() {
    if (this.previewButton.hasAttribute("aria-disabled")) return;
    if (this.preview.shown) this.preview.close();
    else await this.#show();
    this.update();
  }

  async #show() {
    this.onproblem(null);
    try {
      const shown = this.preview.show(this.#options());
      this.update();
      const stream = await shown;
      if (stream) await this.devices.refresh(stream);
    } catch (error) {
      this.onproblem(error);
    }
    this.update();
  }

  #changed(field) {
    if (field.name === "simulcast") this.#wantsSimulcast = field.checked;
    if (this.preview.shown && ["source", "resolution", "sound"].includes(field.name)) {
      if (this.source === "screen") this.preview.close(); // it asks the reader what to show: only when pressed
      else this.#show();
    }
    this.update();
  }

  async #choose(kind, deviceId) {
    const publisher = this.running();
    if (publisher) await publisher.use(kind, deviceId);
    else if (this.preview.shown) await this.#show();
  }

  /** Grey out what has no effect: pictures' options without a picture, simulcast where the browser can't do it. */
  #limit() {
    const { codec, resolution, simulcast, camera } = this.form.elements;
    this.form.querySelector(".video-options").disabled = this.source === "microphone";
    camera.closest("label").classList.toggle("unused", this.source !== "camera");
    const sizes = sizesOf(Number(resolution.value));
    const can = sizes > 1 && simulcastWorks(codec.value);
    simulcast.disabled = !can;
    simulcast.checked = can && this.#wantsSimulcast;
    this.form.querySelector(".simulcast small").textContent = can
      ? `${sizes === 3 ? "Three" : "Two"} sizes, so that each viewer gets what fits`
      : `This browser sends ${sizes > 1 ? codec.selectedOptions[0].textContent : resolution.selectedOptions[0].textContent} in one size only`;
  }

  /** For a moment no press captures: a page that opens this one under the reader's double click gets nothing by it. */
  #disarm() {
    const buttons = [this.start, this.previewButton];
    for (const button of buttons) button.setAttribute("aria-disabled", "true");
    clearTimeout(this.#arming);
    this.#arming = setTimeout(() => buttons.forEach((button) => button.removeAttribute("aria-disabled")), ARMING);
  }
}

export function choose(select, value) {
  if (value && [...select.options].some((option) => option.value === value)) select.value = value;
}
