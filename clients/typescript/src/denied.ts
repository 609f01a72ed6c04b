import type { Validation } from "./validation.js";
import type { Source, Verdict } from "./verdict.js";

/** The service has decided, and the answer is no. Not a `TenantAuthError`: those say that nothing was decided. */
export class DeniedError extends Error {
  /** Why: anything but `VALID`. */
  readonly verdict: Verdict;
  /** With `INSUFFICIENT_SCOPE`: the required scopes that the key lacks, sorted. */
  readonly missingScopes: readonly string[];
  /** Where the answer came from. */
  readonly source: Source;
  /** Milliseconds since the database was asked. */
  readonly ageMs: number;
  /** The database's change-log sequence number that the answer reflects. */
  readonly revision: bigint;

  constructor({ verdict, missingScopes, source, ageMs, revision }: Validation) {
    super(
      missingScopes.length === 0 ? `denied: ${verdict}` : `denied: ${verdict}: ${missingScopes.join(" ")}`,
    );
    this.name = "DeniedError";
    this.verdict = verdict;
    this.missingScopes = missingScopes;
    this.source = source;
    this.ageMs = ageMs;
    this.revision = revision;
  }

  /** Without a `bigint`, which JSON does not have. */
  toJSON(): object {
    return { ...this, message: this.message, revision: String(this.revision) };
  }
}
