import * as checks from "../checks.js";
import { TenantAuthError } from "../error.js";
import { keepCredential } from "../guard/credential.js";
import type { LimitDecision } from "../limits/decision.js";
import type { LimitOutcome } from "../limits/outcome.js";
import { type Principal, principalOf } from "../principal.js";
import type { Validation } from "../validation.js";
import { clientAddressReader, type ProxyOptions } from "./client-address.js";
import { decider, type KeyValidator, type RequestCosts } from "./costs.js";
import { credential, type HttpRequest, isPreflight, valuesOf } from "./credentials.js";
import { exemptPaths } from "./exempt.js";
import { rateLimitHeaders } from "./rate-limit.js";
import {
  ambiguous,
  type Challenge,
  denied,
  limitExceeded,
  noCredentials,
  type Rejection,
  undecided,
} from "./rejection.js";
import { notify, undecidedLog } from "./undecided-log.js";

/** Options of the adapters. `R` is the request of the framework. */
export interface RequireKeyOptions<R = unknown> extends ProxyOptions {
  /** Scopes that the key must hold, all of them. */
  readonly scopes?: readonly string[];
  /**
   * What a request takes from the limits of its key, always or as a function of the request; default: nothing. It is taken
   * in the same call that validates the key. A request whose function returns an empty list takes nothing.
   */
  readonly costs?: RequestCosts<R>;
  /** The header that carries the key, or several; they must not have different keys. Default: `authorization`. */
  readonly header?: string | readonly string[];
  /** Exact paths, as sent by the client and without the query, that need no key. */
  readonly exempt?: string | readonly string[];
  /** Whether CORS preflight requests are admitted, without a principal; default: true. */
  readonly allowPreflight?: boolean;
  /** Timeout of a validation, in milliseconds; default: the client's timeout. */
  readonly timeoutMs?: number;
  /** The realm in the `WWW-Authenticate` challenge; default: none. */
  readonly realm?: string;
  /** Called with the error if no decision was made; the response is 503. Default: one log line per second. */
  readonly onError?: (error: unknown) => void;
}

/** The result of admission control. */
export type Admission =
  | {
      readonly validation: Validation;
      readonly principal: Principal;
      readonly key: string;
      /** The client's address, if it is known. */
      readonly clientAddress: string | undefined;
      /** What the limits say, if the adapter takes costs. */
      readonly limits: readonly LimitDecision[] | undefined;
      /** Headers of the response that state the limits. */
      readonly headers: Readonly<Record<string, string>>;
      readonly rejection?: never;
    }
  | { readonly rejection: Rejection; readonly principal?: never }
  /** The request needs no key. */
  | { readonly principal?: never; readonly rejection?: never };

/** The paths of the key in the requests of a validation and of a decision about limits. */
const KEY_FIELDS = ["key", "credential.key.key"];

/** Headers that are rejected if they occur more than once. */
const SINGLE = ["mcp-session-id"];

/**
 * Returns the admission function that all adapters use. Its promise never rejects. Its second argument is what the function
 * of the option `costs` gets.
 */
export function admission<R>(
  client: KeyValidator,
  given: RequireKeyOptions<R> & Challenge,
): (request: HttpRequest, source: R) => Promise<Admission> {
  const { timeoutMs, onError = undecidedLog(), allowPreflight = true, costs, ...challenge } = checked(given);
  const decide = decider(client, costs, timeoutMs);
  const { scopes: required = [], header = "authorization", exempt: paths = [] } = given;
  const scopes = checks.texts("scopes", required);
  const clientAddressOf = clientAddressReader(given);
  const names = checks.shapedTexts("header", header, /^[\w-]+$/, 'header names such as "X-API-Key"');
  const headers = names.map((name) => name.toLowerCase());
  if (headers.length === 0)
    throw new TypeError(
      'header must be a header name such as "X-API-Key", or a list of them that is not empty',
    );
  const exempt = exemptPaths(paths);
  return async (request, source) => {
    try {
      if (exempt(request)) return {};
      const { key, ambiguous: isAmbiguous } = credential(request, headers);
      if (isAmbiguous || SINGLE.some((name) => valuesOf(request, name).length > 1))
        return { rejection: ambiguous() };
      if (key === undefined) {
        return allowPreflight && isPreflight(request) ? {} : { rejection: noCredentials(challenge) };
      }
      const clientAddress = clientAddressOf(request);
      const outcome = await decide({ key, scopes, clientAddress }, source);
      if (!outcome.allowed) return { rejection: deniedByOutcome(outcome, challenge) };
      const { validation } = outcome;
      const principal = keepCredential(principalOf(validation), { key, clientAddress, scopes });
      const limits = costs === undefined ? undefined : outcome.limits;
      return { validation, principal, key, clientAddress, limits, headers: rateLimitHeaders(outcome.limits) };
    } catch (error) {
      // A key that the service rejects as malformed, such as one of 10,000 characters, is a mistake of the customer.
      if (isCausedBy(error, ...KEY_FIELDS)) return { rejection: denied("MALFORMED", [], challenge) };
      notify(onError, error);
      return { rejection: undecided(error) };
    }
  };
}

/** Whether the service rejected the request only because of these fields, which come from the customer. */
export function isCausedBy(error: unknown, ...fields: readonly string[]): boolean {
  if (!(error instanceof TenantAuthError) || error.kind !== "invalid") return false;
  return error.violations.length > 0 && error.violations.every(({ field }) => fields.includes(field));
}

/** The names of the options that all adapters have. */
export const ADAPTER_OPTIONS = [
  "scopes",
  "costs",
  "header",
  "exempt",
  "allowPreflight",
  "trustedProxies",
  "clientAddressHeader",
  "timeoutMs",
  "realm",
  "onError",
] as const;

const OPTIONS = [...ADAPTER_OPTIONS, "resourceMetadataUrl"] as const;

function deniedByOutcome(outcome: LimitOutcome, challenge: Challenge): Rejection {
  const { verdict, validation, limits, retryAfterMs } = outcome;
  if (!validation.valid) return denied(validation.verdict, validation.missingScopes, challenge);
  if (verdict === "QUOTA_EXCEEDED" || verdict === "RATE_LIMITED")
    return limitExceeded(verdict, limits, retryAfterMs);
  return denied(verdict, [], challenge);
}

function checked<R>(given: RequireKeyOptions<R> & Challenge): RequireKeyOptions<R> & Challenge {
  checks.options("options", given, OPTIONS);
  if (given.timeoutMs !== undefined) checks.milliseconds("timeoutMs", given.timeoutMs);
  if (given.allowPreflight !== undefined) checks.flag("allowPreflight", given.allowPreflight);
  if (given.realm !== undefined) checks.headerText("realm", given.realm);
  if (given.resourceMetadataUrl !== undefined)
    checks.headerText("resourceMetadataUrl", given.resourceMetadataUrl);
  checks.callback("onError", given.onError);
  return given;
}
