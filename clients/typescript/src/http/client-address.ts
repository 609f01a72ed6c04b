import { type Address, parseAddress } from "../address.js";
import * as checks from "../checks.js";
import { contain, parseNetwork } from "../networks.js";
import { type HttpRequest, valuesOf } from "./credentials.js";

/** Options for servers behind proxies. */
export interface ProxyOptions {
  /**
   * Networks or addresses of the proxies in front of this server, such as `10.0.0.0/8`; default: none. Only from these
   * peers is the header of the client's address believed. From all others it is ignored, because anyone can send it.
   */
  readonly trustedProxies?: readonly string[];
  /** The header in which the proxies send the client's address; default: `x-forwarded-for`. */
  readonly clientAddressHeader?: string;
}

/**
 * Returns the function that all adapters use to determine the client's address. It returns `undefined` without a
 * trustworthy address: a wrong one might be in the networks of a key.
 */
export function clientAddressReader(options: ProxyOptions): (request: HttpRequest) => string | undefined {
  const { trustedProxies = [], clientAddressHeader = "x-forwarded-for" } = options;
  const proxies = checks.texts("trustedProxies", trustedProxies, "10.0.0.0/8").map((text) => {
    const network = parseNetwork(text);
    if (network !== undefined) return network;
    throw new TypeError(
      `trustedProxies must be networks or addresses such as "10.0.0.0/8", not ${JSON.stringify(text)}`,
    );
  });
  const header = checks.headerName("clientAddressHeader", clientAddressHeader);
  const isTrusted = (address: Address): boolean => contain(proxies, address);
  return (request) => {
    const peer = request.socket.remoteAddress ?? "";
    const address = parseAddress(peer);
    if (address === undefined) return undefined;
    return isTrusted(address) ? forwarded(valuesOf(request, header), isTrusted) : peer;
  };
}

/**
 * Returns the last address that is not a proxy's: proxies append the address of their peer, and everything before it
 * may be forged. If all are proxies', the first one made the request. An invalid entry hides what is before it.
 */
function forwarded(values: readonly string[], isTrusted: (address: Address) => boolean): string | undefined {
  const entries = values.flatMap((value) => value.split(",")).map((entry) => entry.trim());
  for (const entry of entries.toReversed()) {
    const address = parseAddress(entry);
    if (address === undefined) return undefined;
    if (!isTrusted(address)) return entry;
  }
  return entries[0];
}
