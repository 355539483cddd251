// Why: everything that can go wrong, from a refused token to an unplugged camera, reaches the reader as one
// title and one sentence. Servers explain themselves in JSON problems (RFC 9457: `title`, `detail`, `status`).

/** An error with a title, a detail and, when a server gave it, an HTTP status and the seconds to wait. */
export class Problem extends Error {
  constructor(title, detail = "", { status = 0, retryAfter = 0, cause } = {}) {
    super(detail ? `${title}: ${detail}` : title, { cause });
    this.name = "Problem";
    this.title = title;
    this.detail = detail;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** True when the same request may succeed later without anyone changing it. */
  get passing() {
    return this.status === 0 || this.status >= 500 || [408, 409, 425, 429].includes(this.status);
  }
}

const STATUS_TITLES = {
  401: "A valid access token is needed",
  403: "This token does not allow that",
  404: "Not found",
  409: "That name is already in use",
  413: "The request was too large",
  415: "The server does not take this kind of content",
  422: "The server can't use this offer",
  429: "Too many attempts",
  503: "The server is full or not ready",
};

/** Read a failed response: a JSON problem when it is one, else its status and the start of its text. */
export async function problemFrom(response) {
  const status = response.status;
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  const fallback = STATUS_TITLES[status] ?? `The server answered ${status} ${response.statusText}`.trim();
  const text = await response.text().catch(() => "");
  if (/json/i.test(response.headers.get("Content-Type") ?? "")) {
    try {
      const { title, detail } = JSON.parse(text);
      return new Problem(String(title ?? fallback), String(detail ?? ""), { status, retryAfter });
    } catch {
      // Not JSON in spite of its label: fall through to the plain text.
    }
  }
  const plain = /html/i.test(response.headers.get("Content-Type") ?? "") ? "" : text.trim().slice(0, 200);
  return new Problem(fallback, plain, { status, retryAfter });
}

const DEVICE_PROBLEMS = {
  NotAllowedError: ["Permission was refused", "Allow the camera, microphone or screen for this page and try again."],
  NotFoundError: ["No such device", "No camera or microphone was found on this device."],
  NotReadableError: ["The device is busy", "Another program may be using the camera or microphone."],
  OverconstrainedError: ["The device can't do that", "Choose a lower resolution and try again."],
};

/** Turn anything that was thrown into a Problem. */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  const known = DEVICE_PROBLEMS[error?.name];
  if (known) return new Problem(...known, { cause: error });
  return new Problem("Something went wrong", error?.message ?? String(error), { cause: error });
}
