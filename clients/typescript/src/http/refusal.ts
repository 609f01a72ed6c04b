import { type ServerResponse, STATUS_CODES } from "node:http";
import { TenantAuthError } from "../error.js";
import type { Verdict } from "../verdict.js";

/** Why a request is refused: a verdict, or one of these. */
export type RefusalCode = Verdict | "NO_CREDENTIALS" | "AMBIGUOUS_REQUEST" | "UNDECIDED";

/** A problem as of RFC 9457. */
export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  /** One sentence. */
  readonly detail: string;
  readonly code: RefusalCode;
  /** With `INSUFFICIENT_SCOPE`: what the key lacks. */
  readonly missing_scopes?: readonly string[];
}

/** A request refused, in terms of HTTP. */
export interface Refusal {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Problem;
}

/** What a 401 or 403 says of the protected area. */
export interface Challenge {
  readonly realm?: string | undefined;
  /** Where the metadata of the resource is, for MCP clients (RFC 9728). */
  readonly resourceMetadataUrl?: string | undefined;
}

/** Used when the service did not say when to come back. */
const RETRY_AFTER = { "retry-after": "1" };

const SENTENCES: Readonly<Partial<Record<RefusalCode, string>>> = {
  NO_CREDENTIALS: "An API key is required.",
  AMBIGUOUS_REQUEST: "A credential or a session id was sent more than once.",
  UNDECIDED: "The API key could not be checked; try again.",
  UNKNOWN: "The API key is not valid.",
  MALFORMED: "The API key is not valid.",
  EXPIRED: "The API key has expired.",
  REVOKED: "The API key was revoked.",
  INSUFFICIENT_SCOPE: "The API key lacks a scope.",
  TENANT_SUSPENDED: "The tenant is suspended.",
  QUOTA_EXCEEDED: "The tenant has used up its quota.",
  RATE_LIMITED: "The tenant calls too often.",
};

export function noCredentials(challenge: Challenge): Refusal {
  return refused(401, "NO_CREDENTIALS", challengeHeader(challenge, {}));
}

export function ambiguous(): Refusal {
  return refused(400, "AMBIGUOUS_REQUEST");
}

/** A denied key in terms of HTTP. Whatever is not known admits nobody. */
export function denied(verdict: Verdict, missingScopes: readonly string[], challenge: Challenge): Refusal {
  switch (verdict) {
    case "UNKNOWN":
    case "MALFORMED":
    case "EXPIRED":
    case "REVOKED":
      return refused(401, verdict, challengeHeader(challenge, { error: "invalid_token" }));
    case "INSUFFICIENT_SCOPE": {
      const header = challengeHeader(challenge, {
        error: "insufficient_scope",
        scope: missingScopes.join(" "),
      });
      return refused(403, verdict, header, { missing_scopes: missingScopes });
    }
    case "QUOTA_EXCEEDED":
    case "RATE_LIMITED":
      return refused(429, verdict, RETRY_AFTER);
    default:
      return refused(403, verdict);
  }
}

/** A session that is over, or never was, or is another tenant's. */
export function noSession(verdict: Verdict): Refusal {
  return refused(404, verdict, {}, { detail: "There is no such session." });
}

/** Nobody could decide: never the customer's fault, so never a 401. */
export function undecided(error: unknown): Refusal {
  const waitMs = error instanceof TenantAuthError ? error.retryAfterMs : undefined;
  if (waitMs === undefined) return refused(503, "UNDECIDED", RETRY_AFTER);
  return refused(503, "UNDECIDED", { "retry-after": String(Math.max(1, Math.ceil(waitMs / 1000))) });
}

/** Answers with a refusal. */
export function send(response: ServerResponse, { status, headers, body }: Refusal): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.end(JSON.stringify(body));
}

function refused(
  status: number,
  code: RefusalCode,
  headers: Readonly<Record<string, string>> = {},
  more: { readonly detail?: string; readonly missing_scopes?: readonly string[] } = {},
): Refusal {
  const title = STATUS_CODES[status] ?? "";
  const detail = SENTENCES[code] ?? "The request was denied.";
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
