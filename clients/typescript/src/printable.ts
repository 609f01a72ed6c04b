import { inspect } from "node:util";

const REDACTED = "[redacted]";

/** Message fields whose values must not be printed. */
const SECRETS: ReadonlySet<string> = new Set(["plaintext", "key", "token"]);

/**
 * Makes an object printable. For JSON, `bigint` is converted to a string and bytes to base64. Secret fields are
 * redacted in `JSON.stringify` and `inspect`, and left out of copies with `{ ...answer }`. They can still be read
 * directly.
 */
export function printable<T extends object>(answer: T): T {
  for (const name of Object.keys(answer)) {
    const value: unknown = answer[name as keyof T];
    if (isSecret(name, value)) Object.defineProperty(answer, name, { enumerable: false });
    for (const part of Array.isArray(value) ? value : [value]) if (isMessage(part)) printable(part);
  }
  const hidden = { enumerable: false, configurable: true };
  return Object.defineProperties(answer, {
    toJSON: { ...hidden, value: () => plain(answer, json) },
    [inspect.custom]: {
      ...hidden,
      value: (_depth: number, options: object) =>
        inspect(
          plain(answer, (value) => value),
          options,
        ),
    },
  });
}

function isSecret(name: string, value: unknown): boolean {
  return SECRETS.has(name) && typeof value === "string";
}

function isMessage(value: unknown): value is object {
  return typeof value === "object" && value !== null && "$typeName" in value;
}

function json(value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(json);
  const nested =
    typeof value === "object" && value !== null && !(value instanceof Date || value instanceof Error);
  return nested ? plain(value, json) : value;
}

function plain(object: object, convert: (value: unknown) => unknown): object {
  const names = Object.getOwnPropertyNames(object).filter((name) => name !== "toJSON");
  return Object.fromEntries(
    names.map((name) => {
      const value = object[name as keyof typeof object] as unknown;
      return [name, isSecret(name, value) ? REDACTED : convert(value)];
    }),
  );
}
