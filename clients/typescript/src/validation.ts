import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Address } from "./address.js";
import type { ValidateKeyResponse, ValidateSessionResponse } from "./gen/tenantauth/v1/validation_pb.js";
import { addressDenial, type NetworkLimits } from "./networks.js";
import { printable } from "./printable.js";
import { type Source, sourceFromWire, type Verdict, verdictFromWire } from "./verdict.js";
import { milliseconds } from "./wire.js";

/** The verdict on a key, and the tenant that owns the key. */
export interface Validation {
  /** The verdict. */
  readonly verdict: Verdict;
  /** Whether the verdict is `VALID`. */
  readonly valid: boolean;
  /** Id of the tenant that owns the key. Like all fields below, empty with `UNKNOWN` and `MALFORMED`. */
  readonly tenantId: string;
  /** The tenant's display name. */
  readonly tenantName: string;
  /** The tenant's plan, a label that the service does not interpret. */
  readonly plan: string;
  /** The key's public id. It is not the key itself and is safe to log. */
  readonly keyId: string;
  /** All scopes that the key holds, sorted. */
  readonly scopes: readonly string[];
  /** With `INSUFFICIENT_SCOPE`: the required scopes that the key does not hold, sorted. */
  readonly missingScopes: readonly string[];
  /** The networks from which the key may be used, in CIDR notation, sorted; empty: from everywhere. */
  readonly allowedNetworks: readonly string[];
  /** Time at which the key or the session expires. */
  readonly expiresAt?: Date;
  /** Where the verdict comes from. */
  readonly source: Source;
  /** Milliseconds since the server queried the database. */
  readonly ageMs: number;
  /** The database's change-log sequence number that the verdict reflects. */
  readonly revision: bigint;
  /** Remaining time in milliseconds for which the verdict may be cached; 0: not at all. */
  readonly cacheableForMs: number;
  /** The same while the watch stream is live without a gap; never less than `cacheableForMs`. */
  readonly cacheableWhileWatchedMs: number;
}

/** The verdict on a session, and the tenant of the session. */
export interface SessionValidation extends Validation {
  /** Public id of the key presented with the session; empty if there was none or it belongs to another tenant. */
  readonly presentedKeyId: string;
  /** The networks from which the presented key may be used; empty if it is the session's key. */
  readonly presentedKeyAllowedNetworks: readonly string[];
  /** The attributes that were attached when the session was bound. */
  readonly attributes: Readonly<Record<string, string>>;
}

export function validationFromWire(wire: ValidateKeyResponse | ValidateSessionResponse): Validation {
  const verdict = verdictFromWire(wire.verdict);
  const provenance = wire.provenance;
  const cacheableForMs = milliseconds(provenance?.cacheableFor);
  return printable({
    verdict,
    valid: verdict === "VALID",
    tenantId: wire.tenantId,
    tenantName: wire.tenantName,
    plan: wire.plan,
    keyId: wire.keyId,
    scopes: Object.freeze(wire.scopes),
    missingScopes: wire.missingScopes,
    allowedNetworks: Object.freeze(wire.allowedNetworks),
    ...end(wire.expiresAt),
    source: sourceFromWire(provenance?.source),
    ageMs: milliseconds(provenance?.age),
    revision: provenance?.revision ?? 0n,
    cacheableForMs,
    cacheableWhileWatchedMs: Math.max(cacheableForMs, milliseconds(provenance?.cacheableWhileWatched)),
  });
}

export function sessionValidationFromWire(wire: ValidateSessionResponse): SessionValidation {
  const { presentedKeyId } = wire;
  const presentedKeyAllowedNetworks = Object.freeze(wire.presentedKeyAllowedNetworks);
  const attributes = Object.freeze({ ...wire.attributes });
  return printable({ ...validationFromWire(wire), presentedKeyId, presentedKeyAllowedNetworks, attributes });
}

function end(expiresAt: Timestamp | undefined): { expiresAt?: Date } {
  return expiresAt === undefined ? {} : { expiresAt: new Date(timestampMs(expiresAt)) };
}

/** What a request requires of a key, besides being valid. */
export interface Conditions {
  readonly scopes: readonly string[];
  /** The client's address, if it is known. */
  readonly address: Address | undefined;
}

const ADDRESS_DENIALS: ReadonlySet<Verdict> = new Set(["ADDRESS_REQUIRED", "ADDRESS_NOT_ALLOWED"]);

/** The verdicts that depend on the scopes or the address of the request. */
const CONDITIONAL: ReadonlySet<Verdict> = new Set(["VALID", "INSUFFICIENT_SCOPE", ...ADDRESS_DENIALS]);

/** The part of an answer that depends on the conditions of the request. */
export type Evaluation = Pick<Validation, "verdict" | "valid" | "missingScopes">;

/**
 * Evaluates an answer for another address and other scopes than those of its request. The address comes first, as in
 * the service. The service compares scopes exactly, and so does the client.
 */
export function evaluate(answer: Validation, limits: NetworkLimits, conditions: Conditions): Evaluation {
  const { verdict, valid, missingScopes } = answer;
  if (!CONDITIONAL.has(verdict)) return { verdict, valid, missingScopes };
  // Without the networks of a denial, no address is known to be allowed.
  if (limits.length === 0 && ADDRESS_DENIALS.has(verdict)) return { verdict, valid, missingScopes };
  const denial = addressDenial(limits, conditions.address);
  if (denial !== undefined) return { verdict: denial, valid: false, missingScopes: [] };
  const missing = [...new Set(conditions.scopes)].filter((scope) => !answer.scopes.includes(scope)).sort();
  if (missing.length > 0) return { verdict: "INSUFFICIENT_SCOPE", valid: false, missingScopes: missing };
  return { verdict: "VALID", valid: true, missingScopes: missing };
}
