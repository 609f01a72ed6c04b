import { InvalidTokenError, OAuthError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import {
  type BearerAuthMiddlewareOptions,
  requireBearerAuth as sdkRequireBearerAuth,
} from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import type { OAuthTokenVerifier } from "@modelcontextprotocol/sdk/server/auth/provider.js";
import type { AuthInfo } from "@modelcontextprotocol/sdk/server/auth/types.js";
import type { RequestHandler } from "express";
import { refuse } from "./express.js";
import { bearer, blames, type KeyValidator, refusalOf, undecided } from "./http.js";
import { type Principal, principalOf } from "./principal.js";
import type { Verdict } from "./verdict.js";

export type { KeyValidator } from "./http.js";
export { type RequireSessionOptions, requireSession, type SessionValidator } from "./mcp-session.js";
export type { Principal } from "./principal.js";

/** The SDK takes no token without an end. Each request is verified anew, so that this one means nothing else. */
const NO_END_SECONDS = 3600;

/** A key was denied for a reason that the SDK's own errors do not know. */
export class KeyDeniedError extends Error {
  readonly verdict: Verdict;

  constructor(verdict: Verdict, message: string) {
    super(message);
    this.name = "KeyDeniedError";
    this.verdict = verdict;
  }
}

/** Verifies API keys for the SDK's `requireBearerAuth`, or for anything else that takes its token verifier. */
export class KeyVerifier implements OAuthTokenVerifier {
  readonly #client: KeyValidator;

  constructor(client: KeyValidator) {
    this.#client = client;
  }

  /**
   * Throws the SDK's `InvalidTokenError` for a key that is not good, `KeyDeniedError` for a suspended tenant or a used
   * up quota, and `TenantAuthError` when nobody could decide.
   */
  async verifyAccessToken(token: string): Promise<AuthInfo> {
    const validation = await this.#client.validateKey(token).catch((error: unknown) => {
      throw blames(error, "key") ? new InvalidTokenError(refusalOf("MALFORMED", []).body.message) : error;
    });
    if (validation.valid) {
      const endMs = validation.expiresAt?.getTime() ?? Date.now() + NO_END_SECONDS * 1000;
      return {
        token,
        clientId: validation.keyId,
        scopes: [...validation.scopes],
        expiresAt: Math.ceil(endMs / 1000),
        extra: { principal: principalOf(validation) },
      };
    }
    const { status, body } = refusalOf(validation.verdict, validation.missingScopes);
    if (status === 401) throw new InvalidTokenError(body.message);
    throw new KeyDeniedError(validation.verdict, body.message);
  }
}

/** Who makes the request, by what `KeyVerifier` found out. */
export function principalFrom(auth: AuthInfo | undefined): Principal | undefined {
  return auth?.extra?.principal as Principal | undefined;
}

/** Settings of `requireBearerAuth`. */
export interface RequireBearerAuthOptions extends Omit<BearerAuthMiddlewareOptions, "verifier"> {
  /** Told why nobody could decide, for your log; the request is answered with 503. */
  readonly onError?: (error: unknown) => void;
}

/**
 * The SDK's `requireBearerAuth`, except that it answers 503 when nobody could decide and 403 or 429 for a suspended
 * tenant or a used up quota, where the SDK's own can only answer 500.
 */
export function requireBearerAuth(
  client: KeyValidator,
  options: RequireBearerAuthOptions = {},
): RequestHandler {
  const { onError, ...forTheSdk } = options;
  const verifier = new KeyVerifier(client);
  return async (request, response, next) => {
    const token = bearer(request.headers.authorization);
    let verified: () => Promise<AuthInfo> = () =>
      Promise.reject(new InvalidTokenError("an API key is required"));
    try {
      if (token !== undefined) {
        const auth = await verifier.verifyAccessToken(token);
        verified = async () => auth;
      }
    } catch (error) {
      if (error instanceof KeyDeniedError) return refuse(response, refusalOf(error.verdict, []));
      if (!(error instanceof OAuthError)) {
        onError?.(error);
        return refuse(response, undecided(error));
      }
      verified = () => Promise.reject(error);
    }
    // What is left the SDK words better than we could: it knows the metadata of the resource.
    await sdkRequireBearerAuth({ ...forTheSdk, verifier: { verifyAccessToken: verified } })(
      request,
      response,
      next,
    );
  };
}
