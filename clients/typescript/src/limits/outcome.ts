import { TenantAuthError } from "../error.js";
import type { ConsumeResponse, ReserveResponse } from "../gen/tenantauth/v1/limit_pb.js";
import type { Principal } from "../principal.js";
import { printable } from "../printable.js";
import {
  type SessionValidation,
  sessionValidationFromWire,
  type Validation,
  validationFromWire,
} from "../validation.js";
import { type Verdict, verdictFromWire } from "../verdict.js";
import { decisionFromWire, type LimitDecision, retryAfterOf } from "./decision.js";

/** The decision about a key or a session and its limits. */
export interface LimitOutcome {
  /** `VALID`, `QUOTA_EXCEEDED` or `RATE_LIMITED` if a limit is exceeded, otherwise the verdict of the validation. */
  readonly verdict: Verdict;
  /** Whether the verdict is `VALID`: everything is taken. Otherwise nothing is. */
  readonly allowed: boolean;
  /** The validation of the key or the session, as `validateKey` or `validateSession` returns it. Valid if a limit decided. */
  readonly validation: Validation | SessionValidation;
  /** The owner of the key or session, for handlers and guards. Set if the verdict is `VALID`. */
  readonly principal?: Principal;
  /** The limits that apply, by name. Empty if the key or session is not valid. */
  readonly limits: readonly LimitDecision[];
  /** If a limit is exceeded: the earliest time after which a retry can succeed. Absent if no time is known. */
  readonly retryAfterMs?: number;
}

/** The outcome of taking amounts. */
export interface Consumption extends LimitOutcome {
  /** Whether an earlier call with this `consumeId` had taken the amounts. Then `limits` is empty. */
  readonly alreadyConsumed: boolean;
}

export function outcomeFromWire(wire: ConsumeResponse | ReserveResponse): LimitOutcome {
  const limits = Object.freeze(wire.limits.map(decisionFromWire));
  return outcome(verdictFromWire(wire.verdict), validationOf(wire), limits);
}

/** The outcome for a key or session that is not valid. */
export function deniedOutcome(validation: Validation): LimitOutcome {
  return outcome(validation.verdict, validation, []);
}

function outcome(verdict: Verdict, validation: Validation, limits: readonly LimitDecision[]): LimitOutcome {
  const retryAfterMs = retryAfterOf(limits);
  const allowed = verdict === "VALID";
  return printable({
    verdict,
    allowed,
    validation,
    limits,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

function validationOf({ validation }: ConsumeResponse | ReserveResponse): Validation | SessionValidation {
  if (validation.case === "key") return validationFromWire(validation.value);
  if (validation.case === "session") return sessionValidationFromWire(validation.value);
  throw new TenantAuthError("INTERNAL", "the response contains no validation");
}
