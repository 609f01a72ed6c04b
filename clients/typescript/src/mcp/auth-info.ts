import type { LimitDecision } from "../limits/decision.js";
import type { Principal } from "../principal.js";
import { printable } from "../printable.js";
import type { Validation } from "../validation.js";

/** What both SDKs expect as `request.auth`, and pass to tools. It never shows its key when printed. */
export interface AuthInfo {
  /** The key, as presented. */
  token: string;
  /** Public id of the key. */
  clientId: string;
  /** All scopes that the key holds. */
  scopes: string[];
  /** Time at which the key expires, in seconds since the epoch. */
  expiresAt: number;
  extra: Record<string, unknown>;
}

/** The SDKs require every token to expire. Each request is validated again, so this value has no other effect. */
const DEFAULT_EXPIRY_SECONDS = 3600;

/** What an adapter keeps about a request. */
interface Kept {
  readonly principal: Principal;
  readonly clientAddress?: string | undefined;
  readonly limits?: readonly LimitDecision[] | undefined;
}

/** Returns what the SDKs know about the customer of a request. */
export function authInfo(token: string, validation: Validation, kept: Kept): AuthInfo {
  const endMs = validation.expiresAt?.getTime() ?? Date.now() + DEFAULT_EXPIRY_SECONDS * 1000;
  // Redacts the key, because tools may log the object.
  return printable({
    token,
    clientId: validation.keyId,
    scopes: [...validation.scopes],
    expiresAt: Math.ceil(endMs / 1000),
    extra: { ...kept },
  });
}

/** The part of the SDKs' `AuthInfo` in which an adapter keeps the customer. */
export interface WithExtra {
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

/** Returns the customer of a request or a tool call. */
export function principalFrom(auth: WithExtra | undefined): Principal | undefined {
  return auth?.extra?.principal as Principal | undefined;
}

/** Returns the address of the client with which the key was validated, if it is known. */
export function clientAddressFrom(auth: WithExtra | undefined): string | undefined {
  return auth?.extra?.clientAddress as string | undefined;
}

/** Returns what the limits say about a request; `undefined` if the gate takes no costs. */
export function limitsFrom(auth: WithExtra | undefined): readonly LimitDecision[] | undefined {
  return auth?.extra?.limits as readonly LimitDecision[] | undefined;
}
