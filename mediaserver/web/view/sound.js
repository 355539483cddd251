// Why: whether somebody can be heard is the first question of a call. A level that moves answers it, for the own
// microphone as for those who are watched and still muted. Most senders tell the level in each packet, which a page can
// read; for the own sound and the rest the Web Audio API measures, which browsers let run after the reader's first press.

const EVERY = 100; // ms between two looks at the level
const QUIETEST = -60; // dBFS: what is shown as nothing
const WINDOW = 2048; // samples looked at: 43 ms of 48 kHz

const meters = new Set();
let context = null;
let timer = 0;
let touched = false; // for browsers without navigator.userActivation

const pressed = () => navigator.userActivation?.hasBeenActive ?? touched;

/** A loudness, 0 to 1, of an amplitude (root mean square, 0 to 1). */
export const loudness = (amplitude) => (amplitude > 0 ? Math.min(1, Math.max(0, 1 - (20 * Math.log10(amplitude)) / QUIETEST)) : 0);

/** Make or wake the audio context, and give every meter its ear. Called at each press until it runs. */
function wake() {
  if (!pressed() || !window.AudioContext) return;
  context ??= new AudioContext();
  if (context.state === "suspended") context.resume().catch(() => {});
  for (const meter of meters) meter.listen();
}
for (const name of ["pointerup", "keyup", "click"]) {
  addEventListener(name, (event) => {
    touched ||= event.isTrusted;
    wake();
  }, { capture: true });
}

function look() {
  for (const meter of meters) meter.show();
}

/** Shows the level of a stream's sound in an element with the role of a meter. */
export class SoundMeter {
  #stream = null;
  #track = null;
  #source = null;
  #analyser = null;
  #samples = new Float32Array(WINDOW);
  #told = () => null;

  constructor(bar) {
    this.bar = bar;
    this.level = 0;
    meters.add(this);
    timer ||= setInterval(look, EVERY);
  }

  /**
   * Listen to the sound of `stream` as it is now; call again when its tracks change. `told()` gives an amplitude, 0 to 1,
   * that somebody else knows, or null.
   */
  attach(stream, told = () => null) {
    this.#stream = stream;
    this.#told = told;
    wake();
    this.listen();
  }

  listen() {
    const track = this.#stream?.getAudioTracks()[0] ?? null;
    this.bar.hidden = !track;
    if (!context || track === this.#track) return;
    this.#source?.disconnect();
    this.#track = track;
    this.#source = this.#analyser = null;
    if (!track) return;
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#analyser = new AnalyserNode(context, { fftSize: WINDOW });
    this.#source.connect(this.#analyser);
  }

  show() {
    const level = loudness(this.#amplitude());
    if (level === this.level) return;
    this.level = level;
    this.bar.style.setProperty("--level", level.toFixed(3));
    this.bar.setAttribute("aria-valuenow", String(Math.round(100 * level)));
  }

  close() {
    this.#source?.disconnect();
    meters.delete(this);
    if (meters.size) return;
    clearInterval(timer);
    timer = 0;
  }

  #amplitude() {
    const told = this.#told();
    if (told !== null) return told;
    if (!this.#analyser || context.state !== "running") return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return Math.sqrt(sum / WINDOW);
  }
}
