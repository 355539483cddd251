// Why: people want to see and hear themselves before others do. The preview holds the capture until it is published, and
// then hands it over, so that the camera is opened once.

import { capture, isMirrored } from "./media.js";
import { SoundMeter } from "../view/sound.js";

export class Preview {
  #turn = 0;

  /** `root` holds a video and an element with the role of a meter. */
  constructor(root) {
    this.root = root;
    this.video = root.querySelector("video");
    this.bar = root.querySelector("[role=meter]");
    this.stream = null;
  }

  get shown() {
    return !this.root.hidden;
  }

  /** Capture and show. Gives the stream, or null when it was overtaken by another call. Throws what capturing throws. */
  async show(options) {
    const turn = ++this.#turn;
    this.#stop(); // before: some devices can't be opened twice
    this.root.hidden = false;
    this.root.classList.toggle("sound-only", options.source === "microphone");
    let stream;
    try {
      stream = await capture(options);
    } catch (error) {
      if (turn === this.#turn) this.close();
      throw error;
    }
    if (turn !== this.#turn) {
      stream.getTracks().forEach((track) => track.stop());
      return null;
    }
    this.stream = stream;
    this.video.srcObject = stream;
    this.root.classList.toggle("mirrored", isMirrored(options.source, stream.getVideoTracks()[0]));
    this.meter ??= new SoundMeter(this.bar);
    this.meter.attach(stream);
    stream.getVideoTracks()[0]?.addEventListener("ended", () => stream === this.stream && this.close());
    return stream;
  }

  /** Hand the capture over and close; null when there is none. */
  take() {
    const { stream } = this;
    this.stream = null;
    this.close();
    return stream;
  }

  close() {
    this.#turn++;
    this.#stop();
    this.meter?.close();
    this.meter = null;
    this.root.hidden = true;
  }

  #stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }
}
