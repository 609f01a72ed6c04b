import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
// Declares `request.auth`.
import type {} from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import type { OAuthTokenVerifier } from "@modelcontextprotocol/sdk/server/auth/provider.js";
import type { AuthInfo } from "@modelcontextprotocol/sdk/server/auth/types.js";
import type { RequestHandler } from "express";
import * as checks from "./checks.js";
import { DeniedError } from "./denied.js";
import { admission, isCausedBy, type KeyValidator, type RequireKeyOptions } from "./http/admit.js";
import { denied, send } from "./http/rejection.js";
import { type Principal, principalOf } from "./principal.js";
import { printable } from "./printable.js";
import type { Validation } from "./validation.js";

export { DeniedError } from "./denied.js";
export type { KeyValidator } from "./http/admit.js";
export type { Problem } from "./http/rejection.js";
export { type RequireSessionOptions, requireSession, type SessionValidator } from "./mcp-session.js";
export type { Principal } from "./principal.js";

/** The SDK requires every token to expire. Each request is verified again, so this value has no other effect. */
const DEFAULT_EXPIRY_SECONDS = 3600;

/**
 * Verifies API keys for the SDK's own `requireBearerAuth`, and for other users of the SDK's token verifier interface.
 */
export class KeyVerifier implements OAuthTokenVerifier {
  readonly #client: KeyValidator;

  constructor(client: KeyValidator) {
    checks.withMethod("client", client, "validateKey");
    this.#client = client;
  }

  /**
   * Throws the SDK's `InvalidTokenError` for a key that is not valid, `DeniedError` for a suspended tenant or a used-up
   * quota, and `TenantAuthError` if no decision was made. The SDK passes only the token and not the client's address, so
   * keys that are limited to networks are denied.
   */
  async verifyAccessToken(token: string): Promise<AuthInfo> {
    const validation = await this.#client.validateKey(token).catch((error: unknown) => {
      throw isCausedBy(error, "key") ? new InvalidTokenError("the API key is not valid") : error;
    });
    if (validation.valid) return authInfo(token, validation);
    const { status, body } = denied(validation.verdict, validation.missingScopes, {});
    throw status === 401 ? new InvalidTokenError(body.detail) : new DeniedError(validation);
  }
}

/** Returns the customer that `KeyVerifier` or `requireBearerAuth` has identified. */
export function principalFrom(auth: AuthInfo | undefined): Principal | undefined {
  return auth?.extra?.principal as Principal | undefined;
}

/** Returns the address of the client with which `requireBearerAuth` has validated the key, if it is known. */
export function clientAddressFrom(auth: AuthInfo | undefined): string | undefined {
  return auth?.extra?.clientAddress as string | undefined;
}

/** Options of `requireBearerAuth`. */
export interface RequireBearerAuthOptions extends Omit<RequireKeyOptions, "scopes"> {
  /** Scopes that the key must hold, all of them. */
  readonly requiredScopes?: readonly string[];
  /** URL of the resource metadata (RFC 9728), for the `WWW-Authenticate` header. */
  readonly resourceMetadataUrl?: string;
}

/** Admits only requests with a valid API key, and sets `request.auth` like the SDK's middleware. */
export function requireBearerAuth(
  client: KeyValidator,
  options: RequireBearerAuthOptions = {},
): RequestHandler {
  const { requiredScopes, ...rest } = options;
  const admit = admission(client, requiredScopes === undefined ? rest : { ...rest, scopes: requiredScopes });
  return (request, response, next) => {
    const { method, originalUrl: url, rawHeaders, socket } = request;
    admit({ method, url, rawHeaders, socket })
      .then((admitted) => {
        if (admitted.rejection !== undefined) return send(response, admitted.rejection);
        if (admitted.principal !== undefined)
          request.auth = authInfo(admitted.key, admitted.validation, admitted.clientAddress);
        next();
      })
      .catch(next);
  };
}

function authInfo(token: string, validation: Validation, clientAddress?: string): AuthInfo {
  const endMs = validation.expiresAt?.getTime() ?? Date.now() + DEFAULT_EXPIRY_SECONDS * 1000;
  // Redacts the key, because tools may log the object.
  return printable({
    token,
    clientId: validation.keyId,
    scopes: [...validation.scopes],
    expiresAt: Math.ceil(endMs / 1000),
    extra: { principal: principalOf(validation), clientAddress },
  });
}
