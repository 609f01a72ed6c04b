import type { onRequestAsyncHookHandler } from "fastify";
import { admit, type KeyValidator, type RequireKeyOptions } from "./http.js";
import type { Principal } from "./principal.js";

export type { KeyValidator, RequireKeyOptions } from "./http.js";
export type { Principal } from "./principal.js";

declare module "fastify" {
  interface FastifyRequest {
    /** Who makes the request; set by `requireKey`. */
    principal?: Principal;
  }
}

/** An `onRequest` hook that lets only requests with a good API key through, and puts `principal` on them. */
export function requireKey(client: KeyValidator, options?: RequireKeyOptions): onRequestAsyncHookHandler {
  return async (request, reply) => {
    const { principal, refusal } = await admit(client, request.headers.authorization, options);
    if (refusal !== undefined)
      return await reply.code(refusal.status).headers(refusal.headers).send(refusal.body);
    request.principal = principal;
    return undefined;
  };
}
