import * as checks from "../checks.js";
import { TenantAuthError } from "../error.js";
import { PrincipalDeniedError } from "../principal-token/denied.js";
import type { VerifiedPrincipal } from "../principal-token/verified.js";
import { credential, type HttpRequest, isPreflight } from "./credentials.js";
import { exemptPaths } from "./exempt.js";
import { ambiguous, type Challenge, denied, noCredentials, type Rejection, undecided } from "./rejection.js";
import { notify, undecidedLog } from "./undecided-log.js";

/** The part of a `PrincipalVerifier` that an adapter needs. */
export interface PrincipalTokenVerifier {
  verify(
    token: string,
    options?: { readonly requiredScopes?: readonly string[] },
  ): Promise<VerifiedPrincipal>;
}

/** Options of the adapters for principal tokens. */
export interface RequirePrincipalOptions {
  /** Scopes that the token must have, all of them. */
  readonly scopes?: readonly string[];
  /** The header that carries the token; default: `x-tenant-principal`. */
  readonly header?: string;
  /** Exact paths, as sent by the client and without the query, that need no token. */
  readonly exempt?: string | readonly string[];
  /** Whether CORS preflight requests are admitted, without a principal; default: true. */
  readonly allowPreflight?: boolean;
  /** The realm in the `WWW-Authenticate` challenge; default: none. */
  readonly realm?: string;
  /** Called with the error if no decision was made; the response is 503. Default: one log line per second. */
  readonly onError?: (error: unknown) => void;
}

/** The result of admission control with principal tokens. */
export type PrincipalAdmission =
  | { readonly principal: VerifiedPrincipal; readonly rejection?: never }
  | { readonly rejection: Rejection; readonly principal?: never }
  /** The request needs no token. */
  | { readonly principal?: never; readonly rejection?: never };

const OPTIONS = ["scopes", "header", "exempt", "allowPreflight", "realm", "onError"] as const;

/** Returns the admission function that the adapters for principal tokens use. Its promise never rejects. */
export function principalAdmission(
  verifier: PrincipalTokenVerifier,
  given: RequirePrincipalOptions,
): (request: HttpRequest) => Promise<PrincipalAdmission> {
  checks.withMethod("verifier", verifier, "verify", "PrincipalVerifier");
  const {
    scopes = [],
    header = "x-tenant-principal",
    exempt: paths = [],
  } = checks.options("options", given, OPTIONS);
  const { allowPreflight = true, realm, onError = undecidedLog() } = given;
  const requiredScopes = checks.texts("scopes", scopes);
  const headers = [checks.headerName("header", header)];
  const exempt = exemptPaths(paths);
  checks.flag("allowPreflight", allowPreflight);
  if (realm !== undefined) checks.headerText("realm", realm);
  checks.callback("onError", onError);
  const challenge: Challenge = { realm };
  return async (request) => {
    try {
      if (exempt(request)) return {};
      const { key: token, ambiguous: isAmbiguous } = credential(request, headers);
      if (isAmbiguous) return { rejection: ambiguous() };
      if (token === undefined)
        return allowPreflight && isPreflight(request) ? {} : { rejection: noCredentials(challenge) };
      return { principal: await verifier.verify(token, { requiredScopes }) };
    } catch (error) {
      if (error instanceof PrincipalDeniedError)
        return { rejection: denied(error.code, error.missingScopes, challenge) };
      // An outdated token is not an outage: the next request has a new one.
      const outdated = error instanceof TenantAuthError && error.kind === "outdated";
      if (!outdated) notify(onError, error);
      return { rejection: undecided(error) };
    }
  };
}
