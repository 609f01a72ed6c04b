import type { RequestHandler, Response } from "express";
import { admit, type KeyValidator, type Refusal, type RequireKeyOptions } from "./http.js";
import type { Principal } from "./principal.js";

export type { KeyValidator, Refusal, RequireKeyOptions } from "./http.js";
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
export function requireKey(client: KeyValidator, options?: RequireKeyOptions): RequestHandler {
  return async (request, response, next) => {
    const { principal, refusal } = await admit(client, request.headers.authorization, options);
    if (refusal !== undefined) return refuse(response, refusal);
    request.principal = principal;
    next();
  };
}

/** Answers a request with a refusal. */
export function refuse(response: Response, refusal: Refusal): void {
  response.status(refusal.status).set(refusal.headers).json(refusal.body);
}
