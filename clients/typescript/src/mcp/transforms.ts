import { StringDecoder } from "node:string_decoder";
import type { BodyTransform } from "./response.js";

/** An empty line: the end of an event. */
const END_OF_EVENT = /(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))/;
const LINE = /\r\n|\n|\r/;
const NOTHING = Buffer.alloc(0);

/** Changes the messages in a JSON body. */
export function jsonTransform(change: (text: string) => string): BodyTransform {
  const parts: Buffer[] = [];
  return {
    holdsAll: true,
    write(bytes) {
      parts.push(bytes);
      return NOTHING;
    },
    end: () => Buffer.from(change(Buffer.concat(parts).toString())),
  };
}

/** Changes the messages in an event stream. Each event is sent as soon as it is whole. */
export function eventTransform(change: (text: string) => string): BodyTransform {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  const take = (): string => {
    let out = "";
    for (let end = END_OF_EVENT.exec(rest); end !== null; end = END_OF_EVENT.exec(rest)) {
      const at = end.index + end[0].length;
      out += changedEvent(rest.slice(0, at), change);
      rest = rest.slice(at);
    }
    return out;
  };
  return {
    holdsAll: false,
    write(bytes) {
      rest += decoder.write(bytes);
      return Buffer.from(take());
    },
    end() {
      rest += decoder.end();
      const out = take();
      // Clients ignore an event that is not whole.
      return Buffer.from(out + changedEvent(rest, change));
    },
  };
}

function changedEvent(event: string, change: (text: string) => string): string {
  const lines = event.split(LINE);
  const data = lines.filter((line) => /^data(:|$)/.test(line)).map((line) => line.replace(/^data:? ?/, ""));
  const text = data.join("\n");
  if (text === "") return event;
  const changed = change(text);
  if (changed === text) return event;
  const others = lines.filter((line) => line !== "" && !/^data(:|$)/.test(line));
  return `${[...others, `data: ${changed}`].join("\n")}\n\n`;
}
