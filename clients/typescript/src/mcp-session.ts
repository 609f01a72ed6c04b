import type { RequestHandler } from "express";
import { refuse } from "./express.js";
import { blames, type Refusal, refusalOf, undecided } from "./http.js";
import type { SessionValidation } from "./validation.js";

/** The part of a `Client` that `requireSession` needs. */
export interface SessionValidator {
  validateSession(
    sessionId: string,
    options?: { readonly key?: string; readonly timeoutMs?: number | undefined },
  ): Promise<SessionValidation>;
}

/** Settings of `requireSession`. */
export interface RequireSessionOptions {
  /** How long a decision may take, in milliseconds; the client's own default unless set. */
  readonly timeoutMs?: number;
  /** Told why nobody could decide, for your log; the request is answered with 503. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Lets requests of a session through only while it is bound to the tenant of the presented key. To be used after
 * `requireBearerAuth`. A request without an `mcp-session-id` passes: it is the one that opens a session.
 */
export function requireSession(
  client: SessionValidator,
  options: RequireSessionOptions = {},
): RequestHandler {
  return async (request, response, next) => {
    const sessionId = request.headers["mcp-session-id"];
    if (typeof sessionId !== "string") return next();
    const key = request.auth?.token;
    try {
      const limits = { timeoutMs: options.timeoutMs };
      const session = await client.validateSession(
        sessionId,
        key === undefined ? limits : { ...limits, key },
      );
      if (session.valid) return next();
      refuse(response, sessionRefusal(session));
    } catch (error) {
      if (blames(error, "session_id", "key")) return refuse(response, NO_SESSION);
      options.onError?.(error);
      refuse(response, undecided(error));
    }
  };
}

/** MCP clients open a new session when they are told 404; a 401 would make them ask for a new key. */
const NO_SESSION: Refusal = {
  status: 404,
  headers: {},
  body: { error: "no_session", message: "there is no such session" },
};

function sessionRefusal({ verdict, missingScopes }: SessionValidation): Refusal {
  const gone = verdict === "UNBOUND" || verdict === "SESSION_EXPIRED" || verdict === "UNKNOWN";
  return gone ? NO_SESSION : refusalOf(verdict, missingScopes);
}
