import type { FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from "fastify";
import { admission, type RequireKeyOptions } from "./http/admit.js";
import {
  type PrincipalTokenVerifier,
  principalAdmission,
  type RequirePrincipalOptions,
} from "./http/admit-principal.js";
import type { KeyValidator } from "./http/costs.js";
import type { Rejection } from "./http/rejection.js";
import type { LimitDecision } from "./limits/decision.js";
import type { Principal } from "./principal.js";
import type { VerifiedPrincipal } from "./principal-token/verified.js";

export type { RequireKeyOptions } from "./http/admit.js";
export type { PrincipalTokenVerifier, RequirePrincipalOptions } from "./http/admit-principal.js";
export type { KeyValidator, RequestCosts } from "./http/costs.js";
export type { Problem } from "./http/rejection.js";
export type { Cost } from "./limits/cost.js";
export type { LimitDecision } from "./limits/decision.js";
export type { Principal } from "./principal.js";
export type { VerifiedPrincipal } from "./principal-token/verified.js";

declare module "fastify" {
  interface FastifyRequest {
    /** The customer of the request; set by `requireKey`. */
    principal?: Principal;
    /** The address of the customer with which the key was validated, if it is known; set by `requireKey`. */
    clientAddress?: string;
    /** What the limits say about the request; set by `requireKey` with `costs`. */
    limits?: readonly LimitDecision[];
    /** The customer of the request; set by `requirePrincipal`. */
    verifiedPrincipal?: VerifiedPrincipal;
  }
}

/**
 * Returns an `onRequest` hook that admits only requests with a valid API key, and sets `request.principal` and
 * `request.clientAddress`; with `costs` also `request.limits`, and the headers of the response that state the limits.
 */
export function requireKey(
  client: KeyValidator,
  options: RequireKeyOptions<FastifyRequest> = {},
): onRequestAsyncHookHandler {
  const admit = admission(client, options);
  return async (request, reply) => {
    const admission = await admit(request.raw as Parameters<typeof admit>[0], request);
    if (admission.rejection !== undefined) return await send(reply, admission.rejection);
    if (admission.principal === undefined) return undefined;
    const { principal, clientAddress, limits, headers } = admission;
    request.principal = principal;
    if (clientAddress !== undefined) request.clientAddress = clientAddress;
    if (limits !== undefined) request.limits = limits;
    reply.headers(headers);
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
