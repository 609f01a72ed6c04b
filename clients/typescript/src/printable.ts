import { inspect } from "node:util";

const REDACTED = "[redacted]";

/** Fields of messages that hold what must not be printed. */
const SECRETS: ReadonlySet<string> = new Set(["plaintext", "key", "token"]);

/**
 * Has an answer print as JSON, which knows no `bigint` (they become texts) and no bytes (base64), and hides the texts of
 * fields that are secret from `JSON.stringify`, from `inspect`, and from copies with `{ ...answer }`. They can be read all
 * the same.
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
