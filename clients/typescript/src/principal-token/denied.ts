/** The reason why a principal token is denied. */
export type PrincipalDenial =
  /** The token is malformed, expired, for another audience, or not signed by the service. HTTP 401. */
  | "INVALID_PRINCIPAL"
  /** The token lacks a required scope. HTTP 403. */
  | "INSUFFICIENT_SCOPE";

/**
 * The error for a denied principal token. It is a decision; without a decision the error is a `TenantAuthError`. It
 * contains no part of the token.
 */
export class PrincipalDeniedError extends Error {
  /** The reason. */
  readonly code: PrincipalDenial;
  /** With `INSUFFICIENT_SCOPE`: the required scopes that the token does not have, sorted. */
  readonly missingScopes: readonly string[];
  /**
   * With `INVALID_PRINCIPAL`: the part of the token that is not valid, for logs. `format`, `signature`, or the name of a
   * header parameter or claim, such as `aud`.
   */
  readonly part: string | undefined;

  constructor(code: PrincipalDenial, { part, missingScopes = [] }: PrincipalDenialFacts) {
    super(["denied", code, part ?? missingScopes.join(" ")].join(": "));
    this.name = "PrincipalDeniedError";
    this.code = code;
    this.part = part;
    this.missingScopes = missingScopes;
  }
}

/** Details of a denial, besides its code. */
export interface PrincipalDenialFacts {
  readonly part?: string;
  readonly missingScopes?: readonly string[];
}

/** `part` must not be text from the token. */
export function invalidPrincipal(part: string): PrincipalDeniedError {
  return new PrincipalDeniedError("INVALID_PRINCIPAL", { part });
}
