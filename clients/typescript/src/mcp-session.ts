// It declares that requests have `auth`.
import type {} from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import type { RequestHandler } from "express";
import * as checks from "./checks.js";
import { blames } from "./http/admit.js";
import { valuesOf } from "./http/credentials.js";
import {
  ambiguous,
  denied,
  noCredentials,
  noSession,
  type Refusal,
  send,
  undecided,
} from "./http/refusal.js";
import { tell, undecidedLog } from "./http/undecided-log.js";
import type { Principal } from "./principal.js";
import type { SessionValidation } from "./validation.js";

/** The part of a `Client` that `requireSession` needs. */
export interface SessionValidator {
  validateSession(
    sessionId: string,
    options?: { readonly timeoutMs?: number | undefined },
  ): Promise<SessionValidation>;
}

/** Settings of `requireSession`. */
export interface RequireSessionOptions {
  /** How long a decision may take, in milliseconds; the client's own default unless set. */
  readonly timeoutMs?: number;
  /** Told why nobody could decide; the request is answered with 503. A line in the log each second unless set. */
  readonly onError?: (error: unknown) => void;
}

const SESSION_ID = /^[\x21-\x7e]{1,128}$/;

/**
 * Lets requests of a session through only while it belongs to the tenant of the presented key, whichever of its keys that
 * is. To be used after `requireBearerAuth`. A request without an `mcp-session-id` passes: it is the one that opens a session.
 */
export function requireSession(
  client: SessionValidator,
  options: RequireSessionOptions = {},
): RequestHandler {
  const { timeoutMs, onError = undecidedLog() } = checks.options("options", options, [
    "timeoutMs",
    "onError",
  ]);
  checks.holder("client", client, "validateSession");
  if (timeoutMs !== undefined) checks.milliseconds("timeoutMs", timeoutMs);
  checks.callback("onError", onError);
  const refusalOf = async (
    sessionId: string,
    principal: Principal | undefined,
  ): Promise<Refusal | undefined> => {
    try {
      if (principal === undefined) return noCredentials({});
      if (!SESSION_ID.test(sessionId)) return noSession("UNBOUND");
      const session = await client.validateSession(sessionId, { timeoutMs });
      if (!session.valid) return refused(session);
      return session.tenantId === principal.tenantId ? undefined : noSession("TENANT_MISMATCH");
    } catch (error) {
      if (blames(error, "session_id")) return noSession("UNBOUND");
      tell(onError, error);
      return undecided(error);
    }
  };
  return (request, response, next) => {
    const [sessionId, ...others] = valuesOf(request, "mcp-session-id");
    if (others.length > 0) return send(response, ambiguous());
    if (sessionId === undefined) return next();
    refusalOf(sessionId, request.auth?.extra?.principal as Principal | undefined)
      .then((refusal) => (refusal === undefined ? next() : send(response, refusal)))
      .catch(next);
  };
}

/** MCP clients open a new session when they are told 404; a 401 would make them ask for a new key. */
function refused({ verdict }: SessionValidation): Refusal {
  switch (verdict) {
    case "TENANT_SUSPENDED":
    case "QUOTA_EXCEEDED":
    case "RATE_LIMITED":
    case "UNRECOGNIZED":
      return denied(verdict, [], {});
    default:
      return noSession(verdict);
  }
}
