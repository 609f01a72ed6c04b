import type { onRequestAsyncHookHandler } from "fastify";
import { admission, type KeyValidator, type RequireKeyOptions } from "./http/admit.js";
import type { Principal } from "./principal.js";

export type { KeyValidator, RequireKeyOptions } from "./http/admit.js";
export type { Problem } from "./http/rejection.js";
export type { Principal } from "./principal.js";

declare module "fastify" {
  interface FastifyRequest {
    /** The customer of the request; set by `requireKey`. */
    principal?: Principal;
    /** The address of the customer with which the key was validated, if it is known; set by `requireKey`. */
    clientAddress?: string;
  }
}

/**
 * Returns an `onRequest` hook that admits only requests with a valid API key, and sets `request.principal` and
 * `request.clientAddress`.
 */
export function requireKey(client: KeyValidator, options: RequireKeyOptions = {}): onRequestAsyncHookHandler {
  const admit = admission(client, options);
  return async (request, reply) => {
    const { principal, clientAddress, rejection } = await admit(request.raw as Parameters<typeof admit>[0]);
    if (rejection !== undefined) {
      const { status, headers, body } = rejection;
      return await reply.code(status).headers(headers).send(JSON.stringify(body));
    }
    if (principal !== undefined) request.principal = principal;
    if (clientAddress !== undefined) request.clientAddress = clientAddress;
    return undefined;
  };
}
