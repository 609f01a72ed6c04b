import type { Validation } from "./validation.js";
import type { Source, Verdict } from "./verdict.js";

/** The part of an answer that an error shows. */
type Denial = Pick<Validation, "verdict" | "missingScopes" | "source" | "ageMs" | "revision">;

/** The error for a denied key or session. It is a decision; without a decision the error is a `TenantAuthError`. */
export class DeniedError extends Error {
  /** The reason: any verdict except `VALID`. */
  readonly verdict: Verdict;
  /** With `INSUFFICIENT_SCOPE`: the required scopes that the key does not hold, sorted. */
  readonly missingScopes: readonly string[];
  /** Where the verdict comes from. */
  readonly source: Source;
  /** Milliseconds since the server queried the database. */
  readonly ageMs: number;
  /** The database's change-log sequence number that the verdict reflects. */
  readonly revision: bigint;

  constructor({ verdict, missingScopes, source, ageMs, revision }: Denial) {
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

  /** The `bigint` is converted because JSON has none. */
  toJSON(): object {
    return { ...this, message: this.message, revision: String(this.revision) };
  }
}
