import { Source as WireSource, Verdict as WireVerdict } from "./gen/tenantauth/v1/verdict_pb.js";

/** The decision about a key or a session. Only `VALID` admits; everything else, whatever it is, denies. */
export type Verdict =
  | "VALID"
  | "UNKNOWN"
  | "MALFORMED"
  | "EXPIRED"
  | "REVOKED"
  | "TENANT_SUSPENDED"
  | "INSUFFICIENT_SCOPE"
  | "QUOTA_EXCEEDED"
  | "RATE_LIMITED"
  | "UNBOUND"
  | "SESSION_EXPIRED"
  | "TENANT_MISMATCH"
  /** A verdict that this version does not know: a denial. */
  | "UNRECOGNIZED";

/** Where an answer came from. */
export type Source =
  /** Read from the database for this request. */
  | "DATABASE"
  /** From the service's memory, within the fresh time. */
  | "FRESH"
  /** From the service's memory, past the fresh time, while a reload runs. */
  | "REFRESHING"
  /** From the service's memory, past the fresh time, because the database does not answer. */
  | "STALE"
  /** From the service's memory: the database was found not to hold it a moment ago. */
  | "NEGATIVE"
  /** From this process's own memory; see `ageMs`. */
  | "NEAR"
  /** No lookup was needed, or the service said something that this version does not know. */
  | "UNSPECIFIED";

const VERDICTS: Readonly<Record<number, Verdict>> = {
  [WireVerdict.VALID]: "VALID",
  [WireVerdict.UNKNOWN]: "UNKNOWN",
  [WireVerdict.MALFORMED]: "MALFORMED",
  [WireVerdict.EXPIRED]: "EXPIRED",
  [WireVerdict.REVOKED]: "REVOKED",
  [WireVerdict.TENANT_SUSPENDED]: "TENANT_SUSPENDED",
  [WireVerdict.INSUFFICIENT_SCOPE]: "INSUFFICIENT_SCOPE",
  [WireVerdict.QUOTA_EXCEEDED]: "QUOTA_EXCEEDED",
  [WireVerdict.RATE_LIMITED]: "RATE_LIMITED",
  [WireVerdict.UNBOUND]: "UNBOUND",
  [WireVerdict.SESSION_EXPIRED]: "SESSION_EXPIRED",
  [WireVerdict.TENANT_MISMATCH]: "TENANT_MISMATCH",
};

const SOURCES: Readonly<Record<number, Source>> = {
  [WireSource.DATABASE]: "DATABASE",
  [WireSource.FRESH]: "FRESH",
  [WireSource.REFRESHING]: "REFRESHING",
  [WireSource.STALE]: "STALE",
  [WireSource.NEGATIVE]: "NEGATIVE",
};

export function verdictFromWire(verdict: WireVerdict): Verdict {
  return VERDICTS[verdict] ?? "UNRECOGNIZED";
}

export function sourceFromWire(source: WireSource | undefined): Source {
  return (source === undefined ? undefined : SOURCES[source]) ?? "UNSPECIFIED";
}
