/** What kind of failure it is. */
export type ErrorKind =
  /** Nobody could decide: the service or its database was not reached. Trying again may help. */
  | "unavailable"
  /** There was too much to do. Trying again later may help. */
  | "overloaded"
  /** No answer came in time. */
  | "deadline"
  /** The request breaks the contract; see `violations`. */
  | "invalid"
  /** The service does not know this caller. */
  | "unauthenticated"
  /** This caller may not do that. */
  | "permission-denied"
  /** This client, or this recorder, was closed: it takes nothing any more. */
  | "closed"
  /** Anything else; see `code`. */
  | "other";

/** The canonical names of gRPC's status codes. */
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

/** A field of the request and what is wrong with it. */
export interface Violation {
  /** The field, as a path in the request: `requests[3].key`. */
  readonly field: string;
  /** What is wrong; completes the sentence "the field …". */
  readonly description: string;
}

/** What is known about a failure besides its code and message. */
export interface ErrorFacts {
  /** Unless set, that of the code. */
  readonly kind?: ErrorKind;
  readonly reason?: string;
  readonly violations?: readonly Violation[];
  readonly retryAfterMs?: number;
  readonly requestId?: string;
}

/** Why there is no answer. Never means "no such key": that is a verdict. */
export class TenantAuthError extends Error {
  /** What kind of failure it is. */
  readonly kind: ErrorKind;
  /** The canonical name of the gRPC status code. */
  readonly code: Code;
  /** Machine-readable, such as `DATABASE_TIMED_OUT`, if the service gave a reason. */
  readonly reason: string | undefined;
  /** What is wrong, field by field; empty unless the kind is `invalid`. */
  readonly violations: readonly Violation[];
  /** In how many milliseconds the service wants to be asked again, if it said so. */
  readonly retryAfterMs: number | undefined;
  /** Finds the request in the service's log. */
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

  /** Whether asking again later may be answered. */
  get transient(): boolean {
    return this.kind === "unavailable" || this.kind === "overloaded" || this.kind === "deadline";
  }
}

/** The name of a status code; a number outside the standard is `UNKNOWN`, as the standard has it. */
export function codeName(code: number): Code {
  return CODES[code] ?? "UNKNOWN";
}

export function deadlineExceeded(requestId?: string): TenantAuthError {
  return new TenantAuthError(
    "DEADLINE_EXCEEDED",
    "no answer in time",
    requestId === undefined ? {} : { requestId },
  );
}

/** What every call fails with after `close()`. */
export function clientClosed(): TenantAuthError {
  return new TenantAuthError("CANCELLED", "the client is closed", { kind: "closed" });
}

/** What `record` throws after the recorder's `close()`. */
export function recorderClosed(): TenantAuthError {
  return new TenantAuthError("CANCELLED", "the usage recorder is closed", { kind: "closed" });
}

/** A field that this client refuses as the service would. */
export function invalidField(field: string, description: string): TenantAuthError {
  const violations = [{ field, description }];
  return new TenantAuthError("INVALID_ARGUMENT", `${field}: ${description}`, { violations });
}
