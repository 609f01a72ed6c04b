import type { Request, RequestHandler } from "express";
import { admission, type RequireKeyOptions } from "./http/admit.js";
import {
  type PrincipalTokenVerifier,
  principalAdmission,
  type RequirePrincipalOptions,
} from "./http/admit-principal.js";
import type { KeyValidator } from "./http/costs.js";
import { send } from "./http/rejection.js";
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

declare global {
  namespace Express {
    interface Request {
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
}

/**
 * Admits only requests with a valid API key, and sets `request.principal` and `request.clientAddress`; with `costs` also
 * `request.limits`, and the headers of the response that state the limits.
 */
export function requireKey(client: KeyValidator, options: RequireKeyOptions<Request> = {}): RequestHandler {
  const admit = admission(client, options);
  return (request, response, next) => {
    const { method, originalUrl: url, rawHeaders, socket } = request;
    // Express 4 ignores the return value of a handler, so the promise is handled here.
    admit({ method, url, rawHeaders, socket }, request)
      .then((admission) => {
        if (admission.rejection !== undefined) return send(response, admission.rejection);
        if (admission.principal !== undefined) {
          const { principal, clientAddress, limits, headers } = admission;
          request.principal = principal;
          if (clientAddress !== undefined) request.clientAddress = clientAddress;
          if (limits !== undefined) request.limits = limits;
          for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
        }
        next();
      })
      .catch(next);
  };
}

/** Admits only requests with a valid principal token of the proxy, and sets `request.verifiedPrincipal`. */
export function requirePrincipal(
  verifier: PrincipalTokenVerifier,
  options: RequirePrincipalOptions = {},
): RequestHandler {
  const admit = principalAdmission(verifier, options);
  return (request, response, next) => {
    const { method, originalUrl: url, rawHeaders, socket } = request;
    admit({ method, url, rawHeaders, socket })
      .then(({ principal, rejection }) => {
        if (rejection !== undefined) return send(response, rejection);
        if (principal !== undefined) request.verifiedPrincipal = principal;
        next();
      })
      .catch(next);
  };
}
