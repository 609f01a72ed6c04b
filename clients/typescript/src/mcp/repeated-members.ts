/** The names of the members that lead to an object, and the indices of arrays as numbers. */
export type JsonPath = readonly (string | number)[];

/** Objects at a greater depth are not compared. */
const MAX_DEPTH = 5;

interface Frame {
  readonly path: JsonPath;
  /** The names seen so far, if the object is compared. */
  readonly names: Set<string> | undefined;
  /** The member or element that comes next. */
  at: string | number;
}

/**
 * Whether an object of a JSON text has two members of the same name. `JSON.parse` takes the last one silently, other
 * parsers the first one. The text must be valid JSON; only objects at the paths that `isRead` accepts are compared.
 */
export function hasRepeatedMember(text: string, isRead: (path: JsonPath) => boolean): boolean {
  const frames: Frame[] = [];
  let depth = 0;
  let expectsName = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    const frame = depth === frames.length ? frames.at(-1) : undefined;
    if (character === '"') {
      const end = endOfText(text, at);
      if (expectsName && frame !== undefined) {
        const name = JSON.parse(text.slice(at, end + 1)) as string;
        if (frame.names?.has(name)) return true;
        frame.names?.add(name);
        frame.at = name;
      }
      expectsName = false;
      at = end;
    } else if (character === "{" || character === "[") {
      if (depth === frames.length && depth < MAX_DEPTH) {
        const path = frame === undefined ? [] : [...frame.path, frame.at];
        const isCompared = character === "{" && isRead(path);
        frames.push({ path, names: isCompared ? new Set() : undefined, at: character === "{" ? "" : 0 });
      }
      depth += 1;
      expectsName = character === "{";
    } else if (character === "}" || character === "]") {
      depth -= 1;
      if (frames.length > depth) frames.pop();
      expectsName = false;
    } else if (character === ",") {
      if (typeof frame?.at === "number") frame.at += 1;
      else expectsName = true;
    }
  }
  return false;
}

/** Returns the position of the quotation mark that ends a text. */
function endOfText(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text[end - 1 - escapes] === "\\") escapes += 1;
    if (escapes % 2 === 0) return end;
  }
}
