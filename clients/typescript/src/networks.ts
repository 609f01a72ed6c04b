import { isIP } from "node:net";
import { type Address, parseAddress } from "./address.js";
import type { Verdict } from "./verdict.js";

/** A network: the addresses whose masked groups equal those of the network. */
export interface Network {
  readonly groups: Address;
  readonly masks: readonly number[];
}

/**
 * The networks that limit a key or a session. An address must be in one network of each list; without lists, there is
 * no limit.
 */
export type NetworkLimits = readonly (readonly Network[])[];

/** The networks of an answer, as the service sends them. */
export interface AnswerNetworks {
  readonly allowedNetworks: readonly string[];
  readonly presentedKeyAllowedNetworks?: readonly string[];
}

const NO_LIMITS: NetworkLimits = [];

/** An IPv4 or IPv6 address with an optional prefix length. */
const FORM = /^([\da-f:.]+)(?:\/(0|[1-9]\d{0,2}))?$/i;

/** Parses a network in CIDR notation; `undefined` if the text is not one. A single address is a network of one. */
export function parseNetwork(text: string): Network | undefined {
  const [, host = "", given] = FORM.exec(text) ?? [];
  const version = isIP(host);
  const address = version === 0 ? undefined : parseAddress(host);
  if (address === undefined) return undefined;
  const bits = address.length * 16;
  // The prefix length of an IPv4-mapped network counts from the start of its IPv6 form.
  const mappedBits = version === 6 ? 128 - bits : 0;
  const length = given === undefined ? bits : Number(given) - mappedBits;
  if (length < 0 || length > bits) return undefined;
  const masks = address.map((_, at) => (0xffff << (16 - leading(length - at * 16))) & 0xffff);
  return { groups: address.map((group, at) => group & (masks[at] ?? 0)), masks };
}

/** Whether one of the networks contains the address. A network contains no address of the other family. */
export function contain(networks: readonly Network[], address: Address): boolean {
  return networks.some(
    ({ groups, masks }) =>
      groups.length === address.length &&
      groups.every((group, at) => group === ((address[at] ?? 0) & (masks[at] ?? 0))),
  );
}

/** Parses the networks of an answer. A network that cannot be parsed contains nothing. */
export function limitsOf({
  allowedNetworks,
  presentedKeyAllowedNetworks = [],
}: AnswerNetworks): NetworkLimits {
  const lists = [allowedNetworks, presentedKeyAllowedNetworks].filter((list) => list.length > 0);
  if (lists.length === 0) return NO_LIMITS;
  return lists.map((list) => list.map(parseNetwork).filter((network) => network !== undefined));
}

/** Returns the verdict that denies an address; `undefined` if all limits allow it. */
export function addressDenial(limits: NetworkLimits, address: Address | undefined): Verdict | undefined {
  if (limits.length === 0) return undefined;
  if (address === undefined) return "ADDRESS_REQUIRED";
  return limits.every((networks) => contain(networks, address)) ? undefined : "ADDRESS_NOT_ALLOWED";
}

/** The number of leading ones in the mask of one group. */
function leading(bits: number): number {
  return Math.min(16, Math.max(0, bits));
}
