/** Rejects invalid option values, with the name of the option, the value and the allowed values. */

const DAY_MS = 86_400_000;
const MAX_ENTRIES = 10_000_000;

/** A duration: more than 0, at most a day. */
export function milliseconds(name: string, value: number): number {
  if (typeof value === "number" && value > 0 && value <= DAY_MS) return value;
  throw new TypeError(
    `${name} must be more than 0 and at most ${DAY_MS} milliseconds (a day), not ${shown(value)}`,
  );
}

/** A whole number, at least one. */
export function count(name: string, value: number, most = MAX_ENTRIES): number {
  if (Number.isSafeInteger(value) && value > 0 && value <= most) return value;
  throw new TypeError(`${name} must be a whole number from 1 to ${most}, not ${shown(value)}`);
}

/** A fraction from 0 to 1. */
export function fraction(name: string, value: number): number {
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  throw new TypeError(`${name} must be between 0 and 1, not ${shown(value)}`);
}

export function flag(name: string, value: boolean): boolean {
  if (typeof value === "boolean") return value;
  throw new TypeError(`${name} must be true or false, not ${shown(value)}`);
}

/** A text with at least one character. */
export function nonEmptyText(name: string, value: string): string {
  if (typeof value === "string" && value !== "") return value;
  throw new TypeError(`${name} must be a text that is not empty, not ${shown(value)}`);
}

/** A text that a header can carry. */
export function headerText(name: string, value: string): string {
  if (typeof value === "string" && /^[\x21-\x7e]([\x20-\x7e]{0,254}[\x21-\x7e])?$/.test(value)) return value;
  throw new TypeError(`${name} must be 1 to 256 printable ASCII characters on one line, not ${shown(value)}`);
}

/** The name of a header, in lower case. */
export function headerName(name: string, value: string): string {
  if (typeof value === "string" && /^[\w-]+$/.test(value)) return value.toLowerCase();
  throw new TypeError(`${name} must be a header name such as "X-API-Key", not ${shown(value)}`);
}

/** A function or `undefined`. */
export function callback<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === "function") return value;
  throw new TypeError(`${name} must be a function, not ${shown(value)}`);
}

/** An object with the given method, such as a client. */
export function withMethod<O extends object>(
  name: string,
  value: O,
  method: keyof O & string,
  example = "Client",
): void {
  if (typeof (value as O | undefined)?.[method] !== "function")
    throw new TypeError(`${name} must have a method ${method}, such as a ${example}`);
}

/** An object with only these options. */
export function options<O extends object>(name: string, value: O, known: readonly (keyof O & string)[]): O {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Map) {
    throw new TypeError(`${name} must be an object, not ${shown(value)}`);
  }
  const unknown = Object.keys(value).find((key) => !(known as readonly string[]).includes(key));
  if (unknown === undefined) return value;
  throw new TypeError(
    `${name}: unknown option ${JSON.stringify(unknown)}; known options: ${known.join(", ")}`,
  );
}

/**
 * A list of texts, such as scopes, paths or networks. A single text is rejected, because it would count as a list of its
 * characters.
 */
export function texts(name: string, value: readonly string[], example = "orders:read"): readonly string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return [...value];
  throw new TypeError(`${name} must be a list of texts, such as ["${example}"], not ${shown(value)}`);
}

/** One text, or a list of texts, of a certain shape, which `right` describes. */
export function shapedTexts(
  name: string,
  value: string | readonly string[],
  shape: RegExp,
  right: string,
): readonly string[] {
  const all = texts(name, typeof value === "string" ? [value] : value);
  const wrong = all.find((one) => !shape.test(one));
  if (wrong === undefined) return all;
  throw new TypeError(`${name} must be ${right}, not ${JSON.stringify(wrong)}`);
}

/** Formats a value for an error message. Objects and lists are not shown because they may contain secrets. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" && value !== null ? "an object" : String(value).slice(0, 64);
}
