import { TenantAuthError } from "./error.js";
import { type Principal, principalOf } from "./principal.js";
import type { Validation } from "./validation.js";
import type { Verdict } from "./verdict.js";

/** The part of a `Client` that a middleware needs. */
export interface KeyValidator {
  validateKey(
    key: string,
    options?: { readonly scopes?: readonly string[]; readonly timeoutMs?: number | undefined },
  ): Promise<Validation>;
}

/** Settings of the middlewares. */
export interface RequireKeyOptions {
  /** Scopes that the key must hold, all of them. */
  readonly scopes?: readonly string[];
  /** How long a decision may take, in milliseconds; the client's own default unless set. */
  readonly timeoutMs?: number;
  /** What protected area a browser or a tool names when it asks for a key; none unless set. */
  readonly realm?: string;
  /** Told why nobody could decide, for your log; the request is answered with 503. */
  readonly onError?: (error: unknown) => void;
}

/** A request refused, in terms of HTTP. */
export interface Refusal {
  readonly status: 401 | 403 | 404 | 429 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: { readonly error: string; readonly message: string };
}

/** What becomes of a request. */
export type Admission =
  | { readonly principal: Principal; readonly refusal?: never }
  | { readonly refusal: Refusal; readonly principal?: never };

/** Used when the service did not say when to come back. */
const RETRY_AFTER_SECONDS = 1;

/** Decides about a request by its `authorization` header. */
export async function admit(
  client: KeyValidator,
  authorization: string | undefined,
  options: RequireKeyOptions = {},
): Promise<Admission> {
  const { scopes = [], timeoutMs, realm } = options;
  const key = bearer(authorization);
  if (key === undefined) return { refusal: unauthorized(realm, undefined, "an API key is required") };
  try {
    const validation = await client.validateKey(key, { scopes, timeoutMs });
    if (validation.valid) return { principal: principalOf(validation) };
    return { refusal: refusalOf(validation.verdict, validation.missingScopes, realm) };
  } catch (error) {
    // A key that the service takes for no key, such as one of 10,000 characters, is the customer's mistake.
    if (blames(error, "key")) return { refusal: refusalOf("MALFORMED", [], realm) };
    options.onError?.(error);
    return { refusal: undecided(error) };
  }
}

/** The key in an `authorization` header; `undefined` when there is none. */
export function bearer(authorization: string | undefined): string | undefined {
  return /^Bearer +([^\s]+) *$/i.exec(authorization ?? "")?.[1];
}

/** A denial in terms of HTTP. Whatever is not known admits nobody. */
export function refusalOf(verdict: Verdict, missingScopes: readonly string[], realm?: string): Refusal {
  switch (verdict) {
    case "INSUFFICIENT_SCOPE": {
      const scope = missingScopes.join(" ");
      const challenge = { error: "insufficient_scope", scope };
      return refused(403, "insufficient_scope", `the key lacks: ${scope}`, challengeHeader(realm, challenge));
    }
    case "TENANT_SUSPENDED":
      return refused(403, "tenant_suspended", "the tenant is suspended");
    case "TENANT_MISMATCH":
      return refused(403, "tenant_mismatch", "the session belongs to another tenant");
    case "QUOTA_EXCEEDED":
      return refused(429, "quota_exceeded", "the tenant has used up its quota");
    case "RATE_LIMITED":
      return refused(429, "rate_limited", "the tenant calls too often");
    case "EXPIRED":
      return unauthorized(realm, "invalid_token", "the API key has expired");
    case "REVOKED":
      return unauthorized(realm, "invalid_token", "the API key was revoked");
    case "UNBOUND":
      return unauthorized(realm, "invalid_token", "the session is not bound");
    case "SESSION_EXPIRED":
      return unauthorized(realm, "invalid_token", "the session has expired");
    case "UNKNOWN":
    case "MALFORMED":
      return unauthorized(realm, "invalid_token", "the API key is not valid");
    default:
      return refused(403, "denied", "the request was denied");
  }
}

/** Nobody could decide: never the customer's fault, so never a 401. */
export function undecided(error: unknown): Refusal {
  const waitMs = error instanceof TenantAuthError ? error.retryAfterMs : undefined;
  const seconds = waitMs === undefined ? RETRY_AFTER_SECONDS : Math.max(1, Math.ceil(waitMs / 1000));
  const headers = { "retry-after": String(seconds) };
  return refused(503, "authentication_unavailable", "the API key could not be checked; try again", headers);
}

/** Whether the service refused the question because of what the customer sent: the fields named, and no other. */
export function blames(error: unknown, ...fields: readonly string[]): boolean {
  if (!(error instanceof TenantAuthError) || error.kind !== "invalid") return false;
  return error.violations.length > 0 && error.violations.every(({ field }) => fields.includes(field));
}

function unauthorized(realm: string | undefined, error: string | undefined, message: string): Refusal {
  return refused(
    401,
    error ?? "missing_token",
    message,
    challengeHeader(realm, error === undefined ? {} : { error }),
  );
}

function refused(
  status: Refusal["status"],
  error: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): Refusal {
  return { status, headers, body: { error, message } };
}

function challengeHeader(
  realm: string | undefined,
  parameters: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const all = { ...(realm === undefined ? {} : { realm }), ...parameters };
  const quoted = Object.entries(all).map(
    ([name, value]) => `${name}="${value.replace(/[^ !#-[\]-~]/g, "")}"`,
  );
  return { "www-authenticate": ["Bearer", quoted.join(", ")].filter(Boolean).join(" ") };
}
