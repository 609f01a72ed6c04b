import { DeniedError } from "../denied.js";
import { TenantAuthError } from "../error.js";
import { sentence } from "../http/rejection.js";
import type { Validation } from "../validation.js";
import type { Verdict } from "../verdict.js";

/** Why a guard ended a stream. */
export interface StreamEnd {
  /** The verdict, or `UNDECIDED` if no decision was made for too long. */
  readonly code: Verdict | "UNDECIDED";
  /** A sentence for humans. */
  readonly detail: string;
  /** The denial, or the error of the last attempt to validate. */
  readonly error: DeniedError | TenantAuthError;
}

export function deniedEnd(answer: Validation, verdict: Verdict = answer.verdict): StreamEnd {
  const error = new DeniedError({ ...answer, verdict });
  return { code: verdict, detail: sentence(verdict), error };
}

export function undecidedEnd(cause: unknown): StreamEnd {
  const error =
    cause instanceof TenantAuthError ? cause : new TenantAuthError("UNAVAILABLE", "no decision was made");
  return { code: "UNDECIDED", detail: sentence("UNDECIDED"), error };
}
