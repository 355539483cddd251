// Why: people choose which camera and microphone they are seen and heard by. Browsers tell the devices' names only once
// one has been captured, so the menus appear then, and follow what is plugged in and out.

import { element } from "../view/dom.js";

const NAMES = { videoinput: "Camera", audioinput: "Microphone" };
const KINDS = { video: "videoinput", audio: "audioinput" };

export class Devices {
  #inUse = {};

  /** `selects`: {videoinput, audioinput}, menus inside labels; `onchoose(kind, deviceId)` with kind "video" or "audio". */
  constructor(selects, { onchoose }) {
    this.selects = selects;
    for (const [kind, name] of Object.entries(KINDS)) {
      const select = selects[name];
      select.addEventListener("change", () => {
        this.#inUse[name] = select.value;
        onchoose(kind, select.value);
      });
    }
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.refresh());
  }

  /** The device id that is chosen, "" for the browser's choice. */
  chosen(kind) {
    const select = this.selects[KINDS[kind]];
    return select.closest("label").hidden ? "" : select.value;
  }

  /** Look again which devices there are; `stream`, if there is one, tells which are in use. */
  async refresh(stream) {
    for (const track of stream?.getTracks() ?? []) {
      const { deviceId } = track.getSettings();
      if (deviceId) this.#inUse[KINDS[track.kind]] = deviceId;
    }
    const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
    for (const [kind, select] of Object.entries(this.selects)) this.#fill(kind, select, devices.filter((device) => device.kind === kind && device.label));
  }

  #fill(kind, select, devices) {
    select.closest("label").hidden = devices.length === 0;
    select.replaceChildren(...devices.map(({ deviceId, label }, i) => element("option", { value: deviceId, textContent: label || `${NAMES[kind]} ${i + 1}` })));
    if (devices.some(({ deviceId }) => deviceId === this.#inUse[kind])) select.value = this.#inUse[kind];
  }
}
