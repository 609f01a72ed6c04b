import type { FastifyReply, onRequestAsyncHookHandler } from "fastify";
import { admission, type KeyValidator, type RequireKeyOptions } from "./http/admit.js";
import {
  type PrincipalTokenVerifier,
  principalAdmission,
  type RequirePrincipalOptions,
} from "./http/admit-principal.js";
import type { Rejection } from "./http/rejection.js";
import type { Principal } from "./principal.js";
import type { VerifiedPrincipal } from "./principal-token/verified.js";

export type { KeyValidator, RequireKeyOptions } from "./http/admit.js";
export type { PrincipalTokenVerifier, RequirePrincipalOptions } from "./http/admit-principal.js";
export type { Problem } from "./http/rejection.js";
export type { Principal } from "./principal.js";
export type { VerifiedPrincipal } from "./principal-token/verified.js";

declare module "fastify" {
  interface FastifyRequest {
    /** The customer of the request; set by `requireKey`. */
    principal?: Principal;
    /** The address of the customer with which the key was validated, if it is known; set by `requireKey`. */
    clientAddress?: string;
    /** The customer of the request; set by `requirePrincipal`. */
    verifiedPrincipal?: VerifiedPrincipal;
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
    if (rejection !== undefined) return await send(reply, rejection);
    if (principal !== undefined) request.principal = principal;
    if (clientAddress !== undefined) request.clientAddress = clientAddress;
    return undefined;
  };
}

/**
 * Returns an `onRequest` hook that admits only requests with a valid principal token of the proxy, and sets
 * `request.verifiedPrincipal`.
 */
export function requirePrincipal(
  verifier: PrincipalTokenVerifier,
  options: RequirePrincipalOptions = {},
): onRequestAsyncHookHandler {
  const admit = principalAdmission(verifier, options);
  return async (request, reply) => {
    const { principal, rejection } = await admit(request.raw as Parameters<typeof admit>[0]);
    if (rejection !== undefined) return await send(reply, rejection);
    if (principal !== undefined) request.verifiedPrincipal = principal;
    return undefined;
  };
}

async function send(reply: FastifyReply, { status, headers, body }: Rejection): Promise<FastifyReply> {
  return await reply.code(status).headers(headers).send(JSON.stringify(body));
}
