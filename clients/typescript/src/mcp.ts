// Declares `request.auth`.
import type {} from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import type { RequestHandler } from "express";
import { admission, type KeyValidator, type RequireKeyOptions } from "./http/admit.js";
import { send } from "./http/rejection.js";
import { authInfo } from "./mcp/auth-info.js";

export { DeniedError } from "./denied.js";
export type { KeyValidator } from "./http/admit.js";
export type { Problem } from "./http/rejection.js";
export { type AuthInfo, clientAddressFrom, principalFrom } from "./mcp/auth-info.js";
export { KeyVerifier, type KeyVerifierOptions, type SdkErrors } from "./mcp/key-verifier.js";
export { type RequireSessionOptions, requireSession, type SessionValidator } from "./mcp-session.js";
export type { Principal } from "./principal.js";

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
          request.auth = authInfo(
            admitted.key,
            admitted.validation,
            admitted.principal,
            admitted.clientAddress,
          );
        next();
      })
      .catch(next);
  };
}
