import type { Principal } from "../principal.js";

/** What a principal was validated with, to validate it again. */
export interface Credential {
  /** The key, if it was validated by itself. */
  readonly key?: string | undefined;
  /** The session, and the key with which it was validated, if any. */
  readonly session?: { readonly id: string; readonly key: string | undefined };
  readonly clientAddress: string | undefined;
  /** The scopes that were required. */
  readonly scopes: readonly string[];
}

/** Outside of the principals, so that nothing that prints or serialises one can show a key. */
const credentials = new WeakMap<Principal, Credential>();

/** Keeps the credential of a principal, and returns the principal. */
export function keepCredential(principal: Principal, credential: Credential): Principal {
  credentials.set(principal, credential);
  return principal;
}

/** Returns the credential of a principal. Throws a `TypeError` for one that no validation of this process returned. */
export function credentialOf(principal: Principal): Credential {
  const isObject = typeof principal === "object" && principal !== null;
  const credential = isObject ? credentials.get(principal) : undefined;
  if (credential !== undefined) return credential;
  throw new TypeError(
    "the principal has no key to validate again: use the object itself, as requireKey, requireSession or an adapter returned it, and no copy",
  );
}
