// Why: capture differs between cameras, screens and phones; the rest of the page wants one stream or one clear Problem.

import { Problem } from "../session/problem.js";

// Height in lines -> ceiling of the top layer in bit/s: what the common encoders need for 30 frames/s of a talking person.
export const BITRATES = { 180: 300_000, 360: 800_000, 540: 1_500_000, 720: 2_500_000, 1080: 4_500_000 };

/**
 * Capture `source` ("camera", "screen" or "microphone") at `height` lines of 16:9; with sound unless told otherwise.
 * `camera` and `microphone` are device ids; empty ones leave the choice to the browser.
 */
export async function capture({ source, height = 720, sound = true, camera = "", microphone = "" }) {
  const devices = navigator.mediaDevices;
  if (!devices) {
    throw new Problem("This page is not secure", "Browsers give a camera or microphone only to HTTPS pages and to localhost.");
  }
  if (navigator.userActivation?.hasBeenActive === false) {
    throw new Problem("A press is needed", "Nothing is captured before you have pressed something on this page.");
  }
  if (source === "screen") return captureScreen(devices, height, sound, microphone);
  if (source !== "camera" && source !== "microphone") throw new Problem("Unknown source", `“${source}” is no source; choose camera, screen or microphone.`);
  const video = source === "camera" && videoConstraints(height, camera ? { deviceId: { exact: camera } } : { facingMode: { ideal: "user" } });
  return devices.getUserMedia({ audio: (source === "microphone" || sound) && audioConstraints(microphone), video });
}

async function captureScreen(devices, height, sound, microphone) {
  if (!devices.getDisplayMedia) throw new Problem("No screen sharing here", "This browser can't share its screen.");
  const stream = await devices.getDisplayMedia({ video: { height: { max: height }, frameRate: { ideal: 30 } }, audio: sound });
  if (sound && !stream.getAudioTracks().length) {
    const voice = await devices.getUserMedia({ audio: audioConstraints(microphone) }).catch(() => null); // the screen alone is better than nothing
    voice?.getTracks().forEach((track) => stream.addTrack(track));
  }
  return stream;
}

const audioConstraints = (deviceId) => (deviceId ? { deviceId: { exact: deviceId } } : true);

function videoConstraints(height, which) {
  const width = Math.round((height * 16) / 9);
  return { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 }, ...which };
}

/** A track of another device in place of `track`, which ends: phones open one camera at a time. */
export async function fromDevice(track, deviceId, height) {
  track.stop();
  const constraints = track.kind === "video" ? { video: videoConstraints(height, { deviceId: { exact: deviceId } }) } : { audio: audioConstraints(deviceId) };
  return (await navigator.mediaDevices.getUserMedia(constraints)).getTracks()[0];
}

/** The other camera of a phone, as a track. */
export async function otherCamera(track, height) {
  const facingMode = track.getSettings().facingMode === "environment" ? "user" : "environment";
  track.stop();
  const stream = await navigator.mediaDevices.getUserMedia({ video: videoConstraints(height, { facingMode: { ideal: facingMode } }) });
  return stream.getVideoTracks()[0];
}

/** True for a phone's camera with another on the other side. */
export async function hasOtherSide(track) {
  if (!track?.getSettings().facingMode) return false;
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter(({ kind }) => kind === "videoinput").length > 1;
}

/** Whether a picture is shown as in a mirror: the reader's own face, but no screen and no camera that looks away. */
export const isMirrored = (source, track) => source === "camera" && track?.getSettings().facingMode !== "environment";
