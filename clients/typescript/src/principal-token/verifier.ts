import type { JWTPayload } from "jose";
import * as checks from "../checks.js";
import { TenantAuthError } from "../error.js";
import type { NearCache } from "../near/cache.js";
import type { RpcClient } from "../rpc/rpc-client.js";
import { invalidPrincipal, PrincipalDeniedError } from "./denied.js";
import { PrincipalKeys } from "./keys.js";
import { LEEWAY_SECONDS, type VerifiedPrincipal, verifiedPrincipal } from "./verified.js";

/** Longer tokens are not parsed. */
const MAX_TOKEN_BYTES = 4096;

/** Options of `principalVerifier`. */
export interface PrincipalVerifierOptions {
  /** The audience that the proxy asks for on behalf of this server, such as `billing`. Compared exactly. */
  readonly audience: string;
}

/** Options of `verify`. */
export interface VerifyPrincipal {
  /** Scopes that the token must have, all of them. Compared exactly. */
  readonly requiredScopes?: readonly string[];
}

/**
 * Verifies the principal tokens that a proxy passes on in `X-Tenant-Principal`. It asks the service only for the public
 * keys, and keeps them.
 */
export class PrincipalVerifier {
  readonly #rpc: RpcClient;
  readonly #cache: NearCache | undefined;
  readonly #keys: PrincipalKeys;
  readonly #audience: string;

  constructor(rpc: RpcClient, cache: NearCache | undefined, options: PrincipalVerifierOptions) {
    const { audience } = checks.options("options", options, ["audience"]);
    this.#audience = checks.nonEmptyText("audience", audience);
    this.#rpc = rpc;
    this.#cache = cache;
    this.#keys = new PrincipalKeys(rpc);
  }

  /**
   * Returns the customer that a token states. Throws `PrincipalDeniedError` for a token that is not valid or lacks a
   * scope, and `TenantAuthError` without a decision. A scope that may be one of those that did not fit into the token is
   * no decision: the error has the reason `SCOPES_OMITTED`.
   *
   * The error has the kind `outdated` if the watch stream has reported a later change of the key or its tenant: the client
   * must repeat the request through the proxy, which gets a new token. While the stream is down, or without a near cache,
   * a token is honoured until it expires, at most 60 seconds after it was signed.
   */
  async verify(token: string, options: VerifyPrincipal = {}): Promise<VerifiedPrincipal> {
    this.#rpc.assertOpen();
    const { requiredScopes = [] } = checks.options("options", options, ["requiredScopes"]);
    const required = checks.texts("requiredScopes", requiredScopes);
    if (typeof token !== "string") throw new TypeError("token must be a string");
    const principal = await this.#verified(token);
    // First, because a missing scope may have been granted by the change.
    if (this.#cache?.hasChangedSince(principal)) throw outdatedPrincipal();
    const missing = [...new Set(required)].filter((scope) => !principal.scopes.includes(scope)).sort();
    if (missing.length === 0) return principal;
    if (principal.omittedScopes > 0) throw scopesOmitted();
    throw new PrincipalDeniedError("INSUFFICIENT_SCOPE", { missingScopes: missing });
  }

  async #verified(token: string): Promise<VerifiedPrincipal> {
    if (Buffer.byteLength(token) > MAX_TOKEN_BYTES) throw invalidPrincipal("format");
    const { key, alg, issuer } = await this.#keys.find(await keyIdOf(token));
    const now = this.#rpc.clock.now();
    const expected = {
      // The algorithm of the key, whatever the token states.
      algorithms: [alg],
      issuer,
      currentDate: new Date(now),
      clockTolerance: LEEWAY_SECONDS,
    };
    const { jwtVerify, errors } = await import("jose");
    let claims: JWTPayload;
    try {
      claims = (await jwtVerify(token, key, expected)).payload;
    } catch (error) {
      // The library's error contains the claims, so only the name of what is wrong is kept.
      if (error instanceof errors.JOSEError) throw invalidPrincipal(partOf(error));
      throw error;
    }
    return verifiedPrincipal(claims, this.#audience, Math.floor(now / 1000));
  }
}

/** Returns the id of the key that a token names. Nothing else of the header is used before the signature is verified. */
async function keyIdOf(token: string): Promise<string> {
  // Loaded on first use, because most programs verify no tokens.
  const { decodeProtectedHeader } = await import("jose");
  let header: { readonly typ?: unknown; readonly kid?: unknown };
  try {
    header = decodeProtectedHeader(token);
  } catch {
    throw invalidPrincipal("format");
  }
  if (header.typ !== "principal+jwt") throw invalidPrincipal("typ");
  if (typeof header.kid !== "string") throw invalidPrincipal("kid");
  return header.kid;
}

const PARTS: Readonly<Record<string, string>> = {
  ERR_JOSE_ALG_NOT_ALLOWED: "alg",
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: "signature",
};

function partOf(error: { readonly code: string; readonly claim?: unknown }): string {
  return typeof error.claim === "string" ? error.claim : (PARTS[error.code] ?? "format");
}

/** No decision about this token; the proxy asks the service again when the request is repeated. */
function outdatedPrincipal(): TenantAuthError {
  return new TenantAuthError("ABORTED", "the key or its tenant has changed since the token was signed", {
    kind: "outdated",
    reason: "OUTDATED_PRINCIPAL",
    retryAfterMs: 1000,
  });
}

/** No decision: the token cannot say whether its key holds the scopes. */
function scopesOmitted(): TenantAuthError {
  const message = "the token has not all scopes of its key: require the scopes at the proxy";
  return new TenantAuthError("UNAVAILABLE", message, { reason: "SCOPES_OMITTED" });
}
