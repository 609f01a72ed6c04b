import { type ServerResponse, STATUS_CODES } from "node:http";
import { TenantAuthError } from "../error.js";
import type { LimitDecision } from "../limits/decision.js";
import type { PrincipalDenial } from "../principal-token/denied.js";
import type { Verdict } from "../verdict.js";
import { rateLimitHeaders, retryAfterSeconds } from "./rate-limit.js";

/** The reason of a rejection: a verdict, or one of these codes. */
export type RejectionCode =
  | Verdict
  | PrincipalDenial
  | "NO_CREDENTIALS"
  | "AMBIGUOUS_REQUEST"
  | "UNDECIDED"
  | "OUTDATED_PRINCIPAL"
  | "NOT_IN_POLICY"
  | "CONTENT_TOO_LARGE";

/** A problem document (RFC 9457). */
export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  /** A sentence for humans. */
  readonly detail: string;
  readonly code: RejectionCode;
  /** With `INSUFFICIENT_SCOPE`: the missing scopes. */
  readonly missing_scopes?: readonly string[];
}

/** An HTTP response that rejects a request. */
export interface Rejection<B extends object = Problem> {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: B;
}

/** Parameters of the `WWW-Authenticate` challenge. */
export interface Challenge {
  readonly realm?: string | undefined;
  /** URL of the resource metadata, for MCP clients (RFC 9728). */
  readonly resourceMetadataUrl?: string | undefined;
}

/** The default if the service gave no retry delay. */
const RETRY_AFTER = { "retry-after": "1" };

const SENTENCES: Readonly<Partial<Record<RejectionCode, string>>> = {
  NO_CREDENTIALS: "An API key is required.",
  AMBIGUOUS_REQUEST: "A credential or a session id occurs more than once.",
  NOT_IN_POLICY: "The policy of the server does not allow this to any API key.",
  CONTENT_TOO_LARGE: "The body of the request is too large.",
  UNDECIDED: "The API key could not be checked; try again.",
  OUTDATED_PRINCIPAL: "The API key or its tenant has just changed; repeat the request.",
  INVALID_PRINCIPAL: "The principal token is not valid.",
  UNKNOWN: "The API key is not valid.",
  MALFORMED: "The API key is not valid.",
  EXPIRED: "The API key has expired.",
  REVOKED: "The API key was revoked.",
  INSUFFICIENT_SCOPE: "The API key lacks a scope.",
  DISABLED: "The API key is disabled.",
  ADDRESS_REQUIRED:
    "The API key may be used from certain networks only, and the client's address is not known.",
  ADDRESS_NOT_ALLOWED: "The API key may not be used from this address.",
  TENANT_SUSPENDED: "The tenant is suspended.",
  QUOTA_EXCEEDED: "A quota is used up.",
  RATE_LIMITED: "A rate limit is exceeded.",
};

export function noCredentials(challenge: Challenge): Rejection {
  return buildRejection(401, "NO_CREDENTIALS", challengeHeader(challenge, {}));
}

/** Returns the rejection of a request with two values of something that must be single. */
export function ambiguous(detail?: string): Rejection {
  return buildRejection(400, "AMBIGUOUS_REQUEST", {}, detail === undefined ? {} : { detail });
}

/** Returns the rejection of an operation that the policy of an MCP server does not name. */
export function notInPolicy(): Rejection {
  return buildRejection(403, "NOT_IN_POLICY");
}

/** Returns the rejection of a body beyond the limit. The connection is closed, so that the rest is not read. */
export function contentTooLarge(): Rejection {
  return buildRejection(413, "CONTENT_TOO_LARGE", { connection: "close" });
}

/** Returns the rejection for missing scopes. The challenge names all scopes that the request needs. */
export function insufficientScope(
  needed: readonly string[],
  missing: readonly string[],
  challenge: Challenge,
): Rejection {
  const header = challengeHeader(challenge, { error: "insufficient_scope", scope: needed.join(" ") });
  return buildRejection(403, "INSUFFICIENT_SCOPE", header, { missing_scopes: missing });
}

/** Returns the rejection for a denied key or principal token. Unknown verdicts are denials. */
export function denied(
  verdict: Verdict | PrincipalDenial,
  missingScopes: readonly string[],
  challenge: Challenge,
): Rejection {
  switch (verdict) {
    case "UNKNOWN":
    case "MALFORMED":
    case "EXPIRED":
    case "REVOKED":
    case "INVALID_PRINCIPAL":
      return buildRejection(401, verdict, challengeHeader(challenge, { error: "invalid_token" }));
    case "INSUFFICIENT_SCOPE":
      return insufficientScope(missingScopes, missingScopes, challenge);
    case "QUOTA_EXCEEDED":
    case "RATE_LIMITED":
      return buildRejection(429, verdict, RETRY_AFTER);
    default:
      return buildRejection(403, verdict);
  }
}

/**
 * Returns the rejection of a valid key with an exceeded limit. There is no `Retry-After` if no retry delay is known: the
 * limit may never recover by itself.
 */
export function limitExceeded(
  verdict: "QUOTA_EXCEEDED" | "RATE_LIMITED",
  limits: readonly LimitDecision[],
  retryAfterMs: number | undefined,
): Rejection {
  const names = limits.filter(({ exceeded, shadow }) => exceeded && !shadow).map(({ name }) => name);
  const what = sentence(verdict).replace(/\.$/, names.length === 0 ? "." : `: ${names.join(", ")}.`);
  const delay = retryAfterMs === undefined ? {} : { "retry-after": retryAfterSeconds(retryAfterMs) };
  return buildRejection(429, verdict, { ...delay, ...rateLimitHeaders(limits) }, { detail: what });
}

/** Returns the rejection for a session that has ended, does not exist, or belongs to another tenant. */
export function noSession(verdict: Verdict): Rejection {
  return buildRejection(404, verdict, {}, { detail: "The session does not exist." });
}

/** Returns the rejection if no decision was made. It is never the customer's fault and therefore never a 401. */
export function undecided(error: unknown): Rejection {
  const { kind, retryAfterMs } = error instanceof TenantAuthError ? error : {};
  const code = kind === "outdated" ? "OUTDATED_PRINCIPAL" : "UNDECIDED";
  if (retryAfterMs === undefined) return buildRejection(503, code, RETRY_AFTER);
  return buildRejection(503, code, { "retry-after": retryAfterSeconds(retryAfterMs) });
}

/** Sends a rejection. */
export function send(response: ServerResponse, { status, headers, body }: Rejection<object>): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.end(JSON.stringify(body));
}

/** A sentence for humans about the reason of a rejection. */
export function sentence(code: RejectionCode): string {
  return SENTENCES[code] ?? "The request was denied.";
}

function buildRejection(
  status: number,
  code: RejectionCode,
  headers: Readonly<Record<string, string>> = {},
  more: { readonly detail?: string; readonly missing_scopes?: readonly string[] } = {},
): Rejection {
  const title = STATUS_CODES[status] ?? "";
  const detail = sentence(code);
  return {
    status,
    headers: { "content-type": "application/problem+json", "cache-control": "no-store", ...headers },
    body: { type: "about:blank", title, status, detail, code, ...more },
  };
}

function challengeHeader(
  { realm, resourceMetadataUrl }: Challenge,
  parameters: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const all = {
    ...(realm === undefined ? {} : { realm }),
    ...parameters,
    ...(resourceMetadataUrl === undefined ? {} : { resource_metadata: resourceMetadataUrl }),
  };
  const quoted = Object.entries(all).map(
    ([name, value]) => `${name}="${value.replace(/[^ !#-[\]-~]/g, "")}"`,
  );
  return { "www-authenticate": ["Bearer", quoted.join(", ")].filter(Boolean).join(" ") };
}
