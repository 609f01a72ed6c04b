/** Refuses values that cannot be meant, with the name of the option, the value, and what would be right. */

const DAY_MS = 86_400_000;
const MOST_ENTRIES = 10_000_000;

/** A span: more than 0, at most a day. */
export function milliseconds(name: string, value: number): number {
  if (typeof value === "number" && value > 0 && value <= DAY_MS) return value;
  throw new TypeError(
    `${name} must be more than 0 and at most ${DAY_MS} milliseconds (a day), not ${shown(value)}`,
  );
}

/** A number of things: whole, at least one. */
export function count(name: string, value: number, most = MOST_ENTRIES): number {
  if (Number.isSafeInteger(value) && value > 0 && value <= most) return value;
  throw new TypeError(`${name} must be a whole number from 1 to ${most}, not ${shown(value)}`);
}

/** A part of a whole. */
export function share(name: string, value: number): number {
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  throw new TypeError(`${name} must be between 0 and 1, not ${shown(value)}`);
}

export function flag(name: string, value: boolean): boolean {
  if (typeof value === "boolean") return value;
  throw new TypeError(`${name} must be true or false, not ${shown(value)}`);
}

/** A text that a header can carry. */
export function headerText(name: string, value: string): string {
  if (typeof value === "string" && /^[\x21-\x7e]([\x20-\x7e]{0,254}[\x21-\x7e])?$/.test(value)) return value;
  throw new TypeError(`${name} must be 1 to 256 printable ASCII characters on one line, not ${shown(value)}`);
}

/** A function, or nothing. */
export function callback<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === "function") return value;
  throw new TypeError(`${name} must be a function, not ${shown(value)}`);
}

/** Something that has this function, such as a client. */
export function holder<O extends object>(name: string, value: O, method: keyof O & string): void {
  if (typeof (value as O | undefined)?.[method] !== "function")
    throw new TypeError(`${name} must have a function ${method}, as a Client has`);
}

/** An object with these options and no others. */
export function options<O extends object>(name: string, value: O, known: readonly (keyof O & string)[]): O {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Map) {
    throw new TypeError(`${name} must be an object, not ${shown(value)}`);
  }
  const stranger = Object.keys(value).find((key) => !(known as readonly string[]).includes(key));
  if (stranger === undefined) return value;
  throw new TypeError(`${name} has no option ${JSON.stringify(stranger)}; there are ${known.join(", ")}`);
}

/** Texts, such as scopes or paths. One text is no list of its characters. */
export function texts(name: string, value: readonly string[]): readonly string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return [...value];
  throw new TypeError(`${name} must be a list of texts, such as ["orders:read"], not ${shown(value)}`);
}

/** Only what is no secret anywhere: an object may hold one. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" && value !== null ? "an object" : String(value).slice(0, 64);
}
