import type { RequestHandler } from "express";
import { admission, type KeyValidator, type RequireKeyOptions } from "./http/admit.js";
import { send } from "./http/refusal.js";
import type { Principal } from "./principal.js";

export type { KeyValidator, RequireKeyOptions } from "./http/admit.js";
export type { Problem } from "./http/refusal.js";
export type { Principal } from "./principal.js";

declare global {
  namespace Express {
    interface Request {
      /** Who makes the request; set by `requireKey`. */
      principal?: Principal;
    }
  }
}

/** Lets only requests with a good API key through, and puts `principal` on them. */
export function requireKey(client: KeyValidator, options: RequireKeyOptions = {}): RequestHandler {
  const admit = admission(client, options);
  return (request, response, next) => {
    const { method, originalUrl: url, rawHeaders } = request;
    // Express 4 does not look at what a handler returns.
    admit({ method, url, rawHeaders })
      .then(({ principal, refusal }) => {
        if (refusal !== undefined) return send(response, refusal);
        if (principal !== undefined) request.principal = principal;
        next();
      })
      .catch(next);
  };
}
