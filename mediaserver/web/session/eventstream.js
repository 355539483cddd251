// Why: EventSource can't send a bearer token, and WHEP's event resources may ask for one. This reads the same format
// (HTML living standard, 9.2.6) from a fetch.

/** Split a text/event-stream into {event, data}; feed it text in pieces of any size. */
export class EventParser {
  #rest = "";
  #event = "";
  #data = [];

  *feed(text) {
    const parts = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = parts.pop();
    for (const line of parts) {
      if (line === "") yield* this.#flush();
      else this.#field(line);
    }
  }

  #field(line) {
    const [, name, value] = /^([^:]*)(?::[ ]?([^]*))?$/.exec(line);
    if (name === "event") this.#event = value ?? "";
    else if (name === "data") this.#data.push(value ?? "");
  }

  *#flush() {
    if (this.#data.length) yield { event: this.#event || "message", data: this.#data.join("\n") };
    this.#event = "";
    this.#data = [];
  }
}

/** The events of a response, until it ends. */
export async function* readEvents(response) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield* parser.feed(value);
  }
}
