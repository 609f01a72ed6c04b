import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ValidateKeyResponse, ValidateSessionResponse } from "./gen/tenantauth/v1/validation_pb.js";
import { printable } from "./printable.js";
import { type Source, sourceFromWire, type Verdict, verdictFromWire } from "./verdict.js";
import { milliseconds } from "./wire.js";

/** The decision about a key, and whose key it is. */
export interface Validation {
  /** The decision. */
  readonly verdict: Verdict;
  /** Whether the verdict is `VALID`. */
  readonly valid: boolean;
  /** The tenant that owns the key; empty when the verdict is `UNKNOWN` or `MALFORMED`, like all that follows. */
  readonly tenantId: string;
  /** The tenant's display name. */
  readonly tenantName: string;
  /** The tenant's plan, an opaque label. */
  readonly plan: string;
  /** The key's public id, safe to log; not the key. */
  readonly keyId: string;
  /** Every scope that the key holds, sorted. */
  readonly scopes: readonly string[];
  /** With `INSUFFICIENT_SCOPE`: the required scopes that the key lacks, sorted. */
  readonly missingScopes: readonly string[];
  /** When the key, or the session, ends by itself. */
  readonly expiresAt?: Date;
  /** Where the answer came from. */
  readonly source: Source;
  /** Milliseconds since the database was asked. */
  readonly ageMs: number;
  /** The database's change-log sequence number that the answer reflects. */
  readonly revision: bigint;
  /** For how many more milliseconds the service lets the answer be reused; 0: not at all. */
  readonly cacheableForMs: number;
  /** The same while this process hears of every change; never less than `cacheableForMs`. */
  readonly cacheableWhileWatchedMs: number;
}

/** The decision about a session, and whose session it is. */
export interface SessionValidation extends Validation {
  /** Public id of the key presented along with the session; empty when there was none, or it is not of its tenant. */
  readonly presentedKeyId: string;
  /** What was attached when the session was bound. */
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
  const attributes = Object.freeze({ ...wire.attributes });
  return printable({ ...validationFromWire(wire), presentedKeyId, attributes });
}

function end(expiresAt: Timestamp | undefined): { expiresAt?: Date } {
  return expiresAt === undefined ? {} : { expiresAt: new Date(timestampMs(expiresAt)) };
}

/** The answer for other scopes than those it was asked for: the service matches scopes exactly, so we can too. */
export function forScopes<V extends Validation>(answer: V, required: readonly string[]): V {
  if (answer.verdict !== "VALID" && answer.verdict !== "INSUFFICIENT_SCOPE") return answer;
  const missingScopes = [...new Set(required)].filter((scope) => !answer.scopes.includes(scope)).sort();
  const valid = missingScopes.length === 0;
  return printable({ ...answer, verdict: valid ? "VALID" : "INSUFFICIENT_SCOPE", valid, missingScopes });
}
