/** The kind of an error. */
export type ErrorKind =
  /** The service or its database is unreachable, so no decision was made. A retry may help. */
  | "unavailable"
  /** The service is overloaded. A later retry may help. */
  | "overloaded"
  /** The call exceeded its deadline. */
  | "deadline"
  /** The request violates the contract; see `violations`. */
  | "invalid"
  /** The service does not know this caller. */
  | "unauthenticated"
  /** This caller lacks the required role. */
  | "permission-denied"
  /** The key or its tenant has changed since a principal token was signed. Repeating the request may help. */
  | "outdated"
  /** The client, the recorder or the local limiter is closed. */
  | "closed"
  /** Any other error; see `code`. */
  | "other";

/** The canonical names of the gRPC status codes. */
export type Code = (typeof CODES)[number];

const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

const KINDS: Partial<Record<Code, ErrorKind>> = {
  UNAVAILABLE: "unavailable",
  RESOURCE_EXHAUSTED: "overloaded",
  DEADLINE_EXCEEDED: "deadline",
  INVALID_ARGUMENT: "invalid",
  UNAUTHENTICATED: "unauthenticated",
  PERMISSION_DENIED: "permission-denied",
};

/** An invalid field of the request. */
export interface Violation {
  /** Path of the field in the request: `requests[3].key`. */
  readonly field: string;
  /** What is wrong with the field. */
  readonly description: string;
}

/** Details of an error, besides its code and message. */
export interface ErrorFacts {
  /** Default: the kind of the code. */
  readonly kind?: ErrorKind;
  readonly reason?: string;
  readonly violations?: readonly Violation[];
  readonly retryAfterMs?: number;
  readonly requestId?: string;
}

/** A call has no result. It never means "no such key", which is a verdict. */
export class TenantAuthError extends Error {
  /** The kind of the error. */
  readonly kind: ErrorKind;
  /** The canonical name of the gRPC status code. */
  readonly code: Code;
  /** A machine-readable reason, such as `DATABASE_TIMED_OUT`, if the service gave one. */
  readonly reason: string | undefined;
  /** The invalid fields; empty unless the kind is `invalid`. */
  readonly violations: readonly Violation[];
  /** The retry delay that the service asked for, in milliseconds, if it gave one. */
  readonly retryAfterMs: number | undefined;
  /** Identifies the request in the server log. */
  readonly requestId: string | undefined;

  constructor(code: Code, message: string, facts: ErrorFacts = {}) {
    super(`${code}: ${message}`);
    this.name = "TenantAuthError";
    this.code = code;
    this.kind = facts.kind ?? KINDS[code] ?? "other";
    this.reason = facts.reason;
    this.violations = facts.violations ?? [];
    this.retryAfterMs = facts.retryAfterMs;
    this.requestId = facts.requestId;
  }

  /** Whether a later retry may succeed; with the kind `outdated`, of the whole request. */
  get transient(): boolean {
    return ["unavailable", "overloaded", "deadline", "outdated"].includes(this.kind);
  }
}

/** Returns the name of a status code. Codes outside the standard are `UNKNOWN`, as the standard requires. */
export function codeName(code: number): Code {
  return CODES[code] ?? "UNKNOWN";
}

export function deadlineExceeded(requestId?: string): TenantAuthError {
  return new TenantAuthError(
    "DEADLINE_EXCEEDED",
    "deadline exceeded",
    requestId === undefined ? {} : { requestId },
  );
}

/** The error of every call after `close()`. */
export function clientClosed(): TenantAuthError {
  return new TenantAuthError("CANCELLED", "the client is closed", { kind: "closed" });
}

/** The error of `record` after the recorder's `close()`. */
export function recorderClosed(): TenantAuthError {
  return new TenantAuthError("CANCELLED", "the usage recorder is closed", { kind: "closed" });
}

/** The error of `admit` after the local limiter's `close()`. */
export function limiterClosed(): TenantAuthError {
  return new TenantAuthError("CANCELLED", "the local limiter is closed", { kind: "closed" });
}

/** An error for an invalid field, in the same form as the service's. */
export function invalidField(field: string, description: string): TenantAuthError {
  const violations = [{ field, description }];
  return new TenantAuthError("INVALID_ARGUMENT", `${field}: ${description}`, { violations });
}
