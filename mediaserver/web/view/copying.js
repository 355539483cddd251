// Why: a link is copied to be sent to somebody; who pressed wants to know that it is in the clipboard, or to have it to
// copy by hand where the browser allows no clipboard.

import { Problem } from "../session/problem.js";

const SHOWN = 2_000; // ms

/** Copy `text` and say "Copied" in `said`; `show` gets a Problem that holds the text when that is not possible. */
export async function copy(text, said, show) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return show(new Problem("Copy this link", text));
  }
  said.textContent = "Copied";
  clearTimeout(said.timer);
  said.timer = setTimeout(() => { said.textContent = ""; }, SHOWN);
}
