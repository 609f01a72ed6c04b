import { checkedClientAddress } from "./address.js";
import * as checks from "./checks.js";
import type { CallOptions } from "./rpc/rpc-client.js";
import type { Conditions } from "./validation.js";

/** Options of `validateKey`. */
export interface ValidateKey extends CallOptions {
  /** Scopes that the key must hold, all of them. Compared exactly; at most 32. */
  readonly scopes?: readonly string[];
  /**
   * The customer's IPv4 or IPv6 address; a port and a zone are ignored. Required for keys that are limited to networks.
   * Take it from the connection, or from a header of a proxy that you trust.
   */
  readonly clientAddress?: string | undefined;
}

/** Options of `validateSession`. */
export interface ValidateSession extends ValidateKey {
  /** The key presented with the session, if any. It must belong to the tenant of the session. */
  readonly key?: string;
}

/** Validated options of a validation. */
export interface ValidationQuery extends Conditions {
  /** The text of the address; empty without one. */
  readonly clientAddress: string;
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Rejects unknown options: with a misspelt `scopes` option, no scope would be required. */
export function validatedOptions<O extends ValidateKey>(
  given: O,
  known: readonly (keyof O & string)[],
): ValidationQuery {
  const { scopes = [], clientAddress, timeoutMs, signal } = checks.options("options", given, known);
  const { text, address } = checkedClientAddress(clientAddress);
  return { scopes: checks.texts("scopes", scopes), clientAddress: text, address, timeoutMs, signal };
}
