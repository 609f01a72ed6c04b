import type { JWTPayload } from "jose";
import { printable } from "../printable.js";
import { invalidPrincipal } from "./denied.js";

/** Tolerated difference between the clocks of the service and this process, in seconds. */
export const LEEWAY_SECONDS = 5;
/** A longer lifetime is not one of the service's: it would be honoured for longer after a revocation. */
const MAX_LIFE_SECONDS = 60;

/** The customer of a request, as a principal token states it. Safe to log. */
export interface VerifiedPrincipal {
  /** Id of the tenant. */
  readonly tenantId: string;
  /** Public id of the presented key. */
  readonly keyId: string;
  /** The tenant's plan, a label that the service does not interpret. */
  readonly plan: string;
  /** The scopes of the key that the token names; see `omittedScopes`. */
  readonly scopes: readonly string[];
  /** How many scopes of the key did not fit into the token. */
  readonly omittedScopes: number;
  /** The database's change-log sequence number that the token reflects. */
  readonly revision: bigint;
  /** Time at which the token was signed. */
  readonly issuedAt: Date;
  /** Time at which the token expires, at most 60 seconds after `issuedAt`. */
  readonly expiresAt: Date;
}

/** Checks the claims of a token whose signature, issuer and expiry are valid. */
export function verifiedPrincipal(
  claims: JWTPayload,
  audience: string,
  nowSeconds: number,
): VerifiedPrincipal {
  // A token for several audiences could be passed on by one of them to another.
  if (claims.aud !== audience) throw invalidPrincipal("aud");
  const issued = integer(claims, "iat");
  const expires = integer(claims, "exp");
  if (issued > nowSeconds + LEEWAY_SECONDS) throw invalidPrincipal("iat");
  if (expires - issued > MAX_LIFE_SECONDS) throw invalidPrincipal("exp");
  const principal = {
    tenantId: id(claims, "sub"),
    keyId: id(claims, "key_id"),
    plan: text(claims, "plan"),
    scopes: scopes(claims),
    omittedScopes: omittedScopes(claims),
    revision: BigInt(integer(claims, "rev")),
    issuedAt: new Date(issued * 1000),
    expiresAt: new Date(expires * 1000),
  };
  return Object.freeze(printable(principal));
}

function text(claims: JWTPayload, name: string): string {
  const value = claims[name];
  if (typeof value !== "string") throw invalidPrincipal(name);
  return value;
}

/** An empty id would be the same customer for everyone. */
function id(claims: JWTPayload, name: string): string {
  const value = text(claims, name);
  if (value === "") throw invalidPrincipal(name);
  return value;
}

function integer(claims: JWTPayload, name: string): number {
  const value = claims[name];
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw invalidPrincipal(name);
  return value as number;
}

function scopes(claims: JWTPayload): readonly string[] {
  const value = text(claims, "scope");
  const all = value === "" ? [] : value.split(" ");
  if (all.includes("")) throw invalidPrincipal("scope");
  return Object.freeze(all);
}

function omittedScopes(claims: JWTPayload): number {
  if (claims.scope_omitted === undefined) return 0;
  const omitted = integer(claims, "scope_omitted");
  if (omitted === 0) throw invalidPrincipal("scope_omitted");
  return omitted;
}
