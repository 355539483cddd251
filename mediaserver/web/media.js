// Why: capture differs between cameras, screens and phones; the rest of the page wants one stream or one clear Problem.

import { Problem } from "./problem.js";

// Height in lines -> ceiling of the top layer in bit/s: what the common encoders need for 30 frames/s of a talking person.
export const BITRATES = { 180: 300_000, 360: 800_000, 540: 1_500_000, 720: 2_500_000, 1080: 4_500_000 };

/** Capture `source` ("camera", "screen" or "microphone") at `height` lines of 16:9; with sound unless told otherwise. */
export async function capture({ source, height = 720, sound = true, facingMode = "user" }) {
  const devices = navigator.mediaDevices;
  if (!devices) {
    throw new Problem("This page is not secure", "Browsers give a camera or microphone only to HTTPS pages and to localhost.");
  }
  if (navigator.userActivation?.hasBeenActive === false) {
    throw new Problem("A press is needed", "Nothing is captured before you have pressed something on this page.");
  }
  if (source === "screen") return captureScreen(devices, height, sound);
  if (source !== "camera" && source !== "microphone") throw new Problem("Unknown source", `“${source}” is no source; choose camera, screen or microphone.`);
  const video = source === "camera" && videoConstraints(height, facingMode);
  return devices.getUserMedia({ audio: source === "microphone" || sound, video });
}

async function captureScreen(devices, height, sound) {
  if (!devices.getDisplayMedia) throw new Problem("No screen sharing here", "This browser can't share its screen.");
  const stream = await devices.getDisplayMedia({ video: { height: { max: height }, frameRate: { ideal: 30 } }, audio: sound });
  if (sound && !stream.getAudioTracks().length) {
    const voice = await devices.getUserMedia({ audio: true }).catch(() => null); // the screen alone is better than nothing
    voice?.getTracks().forEach((track) => stream.addTrack(track));
  }
  return stream;
}

function videoConstraints(height, facingMode) {
  const width = Math.round((height * 16) / 9);
  return { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 }, facingMode: { ideal: facingMode } };
}

/** The other camera of a phone, as a track. */
export async function otherCamera(track, height) {
  const facingMode = track.getSettings().facingMode === "environment" ? "user" : "environment";
  track.stop(); // phones open one camera at a time
  const stream = await navigator.mediaDevices.getUserMedia({ video: videoConstraints(height, facingMode) });
  return stream.getVideoTracks()[0];
}

/** True when more than one camera is there to choose from. */
export async function severalCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter(({ kind }) => kind === "videoinput").length > 1;
}
