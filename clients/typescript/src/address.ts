import { isIPv4, isIPv6 } from "node:net";
import { invalidField, TenantAuthError } from "./error.js";

/** An IP address, in groups of 16 bits: two of an IPv4 address, eight of an IPv6 address. */
export type Address = readonly number[];

/** A client's address, as a caller gave it. */
export interface ClientAddress {
  /** The text for the service; empty without an address. */
  readonly text: string;
  readonly address: Address | undefined;
}

const MAX_PORT = 65_535;

/** No white space, and at most 128 bytes. */
const VISIBLE = /^[!-~]{1,128}$/;

/** IPv4 with an optional port, IPv6 with an optional zone, or the latter in brackets with an optional port. */
const FORM =
  /^(?:([\d.]+)(?::(\d+))?|([\da-f:.]+)(?:%[^%,[\]]+)?|\[([\da-f:.]+)(?:%[^%,[\]]+)?\](?::(\d+))?)$/i;

const NO_ADDRESS: ClientAddress = { text: "", address: undefined };

/**
 * Parses an address; `undefined` if the text is not one. Ports and zones are ignored, and an IPv4-mapped IPv6 address
 * is the IPv4 address. `BlockList` is not used, because its IPv6 networks contain IPv4 addresses, and a check takes
 * over a microsecond.
 */
export function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return parseIPv4(text);
  const parts = VISIBLE.test(text) ? FORM.exec(text) : null;
  if (parts === null) return undefined;
  const [, ipv4, ipv4Port, plain, bracketed, bracketedPort] = parts;
  if (Number(ipv4Port ?? bracketedPort ?? 0) > MAX_PORT) return undefined;
  if (ipv4 !== undefined) return isIPv4(ipv4) ? parseIPv4(ipv4) : undefined;
  const ipv6 = plain ?? bracketed ?? "";
  return isIPv6(ipv6) ? parseIPv6(ipv6) : undefined;
}

/** Checks the option `clientAddress` of a call. Returns the error of a text that is not an address. */
export function parseClientAddress(given = ""): ClientAddress | TenantAuthError {
  if (given === "") return NO_ADDRESS;
  if (typeof given !== "string") throw new TypeError("clientAddress must be a string");
  const address = parseAddress(given);
  if (address !== undefined) return { text: given, address };
  const forms = "192.0.2.7, 192.0.2.7:443, 2001:db8::7 or [2001:db8::7]:443";
  return invalidField(
    "client_address",
    `must be an IPv4 or IPv6 address, with or without a port, such as ${forms}`,
  );
}

/** Like `parseClientAddress`, but throws the error. */
export function checkedClientAddress(given?: string): ClientAddress {
  const parsed = parseClientAddress(given);
  if (parsed instanceof TenantAuthError) throw parsed;
  return parsed;
}

function parseIPv4(text: string): Address {
  const [a = 0, b = 0, c = 0, d = 0] = text.split(".").map(Number);
  return [a * 256 + b, c * 256 + d];
}

function parseIPv6(text: string): Address {
  const [head = "", tail = ""] = text.split("::");
  const groups = groupsOf(head);
  const last = groupsOf(tail);
  while (groups.length + last.length < 8) groups.push(0);
  groups.push(...last);
  const isMapped = groups[5] === 0xffff && groups.findIndex((group) => group !== 0) === 5;
  return isMapped ? groups.slice(6) : groups;
}

function groupsOf(part: string): number[] {
  const groups: number[] = [];
  for (const group of part === "" ? [] : part.split(":")) {
    if (group.includes(".")) groups.push(...parseIPv4(group));
    else groups.push(Number.parseInt(group, 16));
  }
  return groups;
}
