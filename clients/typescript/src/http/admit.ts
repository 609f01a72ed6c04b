import * as checks from "../checks.js";
import { TenantAuthError } from "../error.js";
import { keepCredential } from "../guard/credential.js";
import { type Principal, principalOf } from "../principal.js";
import type { Validation } from "../validation.js";
import { clientAddressReader, type ProxyOptions } from "./client-address.js";
import { credential, type HttpRequest, isPreflight, valuesOf } from "./credentials.js";
import { exemptPaths } from "./exempt.js";
import { ambiguous, type Challenge, denied, noCredentials, type Rejection, undecided } from "./rejection.js";
import { notify, undecidedLog } from "./undecided-log.js";

/** The part of a `Client` that an adapter needs. */
export interface KeyValidator {
  validateKey(
    key: string,
    options?: {
      readonly scopes?: readonly string[];
      readonly clientAddress?: string | undefined;
      readonly timeoutMs?: number | undefined;
    },
  ): Promise<Validation>;
}

/** Options of the adapters. */
export interface RequireKeyOptions extends ProxyOptions {
  /** Scopes that the key must hold, all of them. */
  readonly scopes?: readonly string[];
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
      readonly rejection?: never;
    }
  | { readonly rejection: Rejection; readonly principal?: never; readonly clientAddress?: never }
  /** The request needs no key. */
  | { readonly principal?: never; readonly clientAddress?: never; readonly rejection?: never };

/** Headers that are rejected if they occur more than once. */
const SINGLE = ["mcp-session-id"];

/** Returns the admission function that all adapters use. Its promise never rejects. */
export function admission(
  client: KeyValidator,
  given: RequireKeyOptions & Challenge,
): (request: HttpRequest) => Promise<Admission> {
  const { timeoutMs, onError = undecidedLog(), allowPreflight = true, ...challenge } = checked(given);
  checks.withMethod("client", client, "validateKey");
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
  return async (request) => {
    try {
      if (exempt(request)) return {};
      const { key, ambiguous: isAmbiguous } = credential(request, headers);
      if (isAmbiguous || SINGLE.some((name) => valuesOf(request, name).length > 1))
        return { rejection: ambiguous() };
      if (key === undefined) {
        return allowPreflight && isPreflight(request) ? {} : { rejection: noCredentials(challenge) };
      }
      const clientAddress = clientAddressOf(request);
      const validation = await client.validateKey(key, { scopes, clientAddress, timeoutMs });
      if (validation.valid) {
        const principal = keepCredential(principalOf(validation), { key, clientAddress, scopes });
        return { validation, principal, key, clientAddress };
      }
      return { rejection: denied(validation.verdict, validation.missingScopes, challenge) };
    } catch (error) {
      // A key that the service rejects as malformed, such as one of 10,000 characters, is a mistake of the customer.
      if (isCausedBy(error, "key")) return { rejection: denied("MALFORMED", [], challenge) };
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

function checked<O extends RequireKeyOptions & Challenge>(given: O): O {
  checks.options("options", given as RequireKeyOptions & Challenge, OPTIONS);
  if (given.timeoutMs !== undefined) checks.milliseconds("timeoutMs", given.timeoutMs);
  if (given.allowPreflight !== undefined) checks.flag("allowPreflight", given.allowPreflight);
  if (given.realm !== undefined) checks.headerText("realm", given.realm);
  if (given.resourceMetadataUrl !== undefined)
    checks.headerText("resourceMetadataUrl", given.resourceMetadataUrl);
  checks.callback("onError", given.onError);
  return given;
}
