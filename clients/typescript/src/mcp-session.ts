// Declares `request.auth`.
import type {} from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import type { AuthInfo } from "@modelcontextprotocol/sdk/server/auth/types.js";
import type { RequestHandler } from "express";
import * as checks from "./checks.js";
import { isCausedBy } from "./http/admit.js";
import { valuesOf } from "./http/credentials.js";
import {
  ambiguous,
  denied,
  noCredentials,
  noSession,
  type Rejection,
  send,
  undecided,
} from "./http/rejection.js";
import { notify, undecidedLog } from "./http/undecided-log.js";
import type { Principal } from "./principal.js";
import { isSessionId } from "./session-id.js";
import type { SessionValidation } from "./validation.js";

/** The part of a `Client` that `requireSession` needs. */
export interface SessionValidator {
  validateSession(
    sessionId: string,
    options?: { readonly clientAddress?: string | undefined; readonly timeoutMs?: number | undefined },
  ): Promise<SessionValidation>;
}

/** Options of `requireSession`. */
export interface RequireSessionOptions {
  /** Timeout of a validation, in milliseconds; default: the client's timeout. */
  readonly timeoutMs?: number;
  /** Called with the error if no decision was made; the response is 503. Default: one log line per second. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Admits requests of a session only while the session belongs to the tenant of the presented key; any valid key of that
 * tenant is accepted. Use it after `requireBearerAuth`, which also determines the client's address. A request without
 * `mcp-session-id` is admitted, because it opens a session.
 */
export function requireSession(
  client: SessionValidator,
  options: RequireSessionOptions = {},
): RequestHandler {
  const { timeoutMs, onError = undecidedLog() } = checks.options("options", options, [
    "timeoutMs",
    "onError",
  ]);
  checks.withMethod("client", client, "validateSession");
  if (timeoutMs !== undefined) checks.milliseconds("timeoutMs", timeoutMs);
  checks.callback("onError", onError);
  const rejectionOf = async (
    sessionId: string,
    auth: AuthInfo | undefined,
  ): Promise<Rejection | undefined> => {
    const principal = auth?.extra?.principal as Principal | undefined;
    const clientAddress = auth?.extra?.clientAddress as string | undefined;
    try {
      if (principal === undefined) return noCredentials({});
      if (!isSessionId(sessionId)) return noSession("UNBOUND");
      const session = await client.validateSession(sessionId, { clientAddress, timeoutMs });
      if (!session.valid) return sessionRejection(session);
      return session.tenantId === principal.tenantId ? undefined : noSession("TENANT_MISMATCH");
    } catch (error) {
      if (isCausedBy(error, "session_id")) return noSession("UNBOUND");
      notify(onError, error);
      return undecided(error);
    }
  };
  return (request, response, next) => {
    const [sessionId, ...others] = valuesOf(request, "mcp-session-id");
    if (others.length > 0) return send(response, ambiguous());
    if (sessionId === undefined) return next();
    rejectionOf(sessionId, request.auth)
      .then((rejection) => (rejection === undefined ? next() : send(response, rejection)))
      .catch(next);
  };
}

/** MCP clients open a new session after a 404. After a 401 they would ask for a new key. */
function sessionRejection({ verdict }: SessionValidation): Rejection {
  switch (verdict) {
    case "ADDRESS_REQUIRED":
    case "ADDRESS_NOT_ALLOWED":
    case "TENANT_SUSPENDED":
    case "QUOTA_EXCEEDED":
    case "RATE_LIMITED":
    case "UNRECOGNIZED":
      return denied(verdict, [], {});
    default:
      return noSession(verdict);
  }
}
