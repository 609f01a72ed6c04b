import { Source as WireSource, Verdict as WireVerdict } from "./gen/tenantauth/v1/verdict_pb.js";

/** The decision about a key or a session. Only `VALID` admits a request; all other values are denials. */
export type Verdict =
  | "VALID"
  | "UNKNOWN"
  | "MALFORMED"
  | "EXPIRED"
  | "REVOKED"
  | "DISABLED"
  | "TENANT_SUSPENDED"
  | "INSUFFICIENT_SCOPE"
  | "QUOTA_EXCEEDED"
  | "RATE_LIMITED"
  | "UNBOUND"
  | "SESSION_EXPIRED"
  | "TENANT_MISMATCH"
  /** The key may be used from certain networks only, and no `clientAddress` was given. */
  | "ADDRESS_REQUIRED"
  /** The key may be used from certain networks only, and the `clientAddress` is in none of them. */
  | "ADDRESS_NOT_ALLOWED"
  /** A verdict that this version does not know; a denial. */
  | "UNRECOGNIZED";

/** Where a verdict comes from. */
export type Source =
  /** Read from the database for this request. */
  | "DATABASE"
  /** From the server's cache, within the fresh lifetime. */
  | "FRESH"
  /** From the server's cache, past the fresh lifetime, while the entry is being reloaded (stale-while-revalidate). */
  | "REFRESHING"
  /** From the server's cache, past the fresh lifetime, because the database does not respond (stale-if-error). */
  | "STALE"
  /** From a negative entry of the server's cache: a recent database read did not find it. */
  | "NEGATIVE"
  /** From this process's near cache; see `ageMs`. */
  | "NEAR"
  /** No lookup was needed, or this version does not know the source. */
  | "UNSPECIFIED";

const VERDICTS: Readonly<Record<number, Verdict>> = {
  [WireVerdict.VALID]: "VALID",
  [WireVerdict.UNKNOWN]: "UNKNOWN",
  [WireVerdict.MALFORMED]: "MALFORMED",
  [WireVerdict.EXPIRED]: "EXPIRED",
  [WireVerdict.REVOKED]: "REVOKED",
  [WireVerdict.DISABLED]: "DISABLED",
  [WireVerdict.TENANT_SUSPENDED]: "TENANT_SUSPENDED",
  [WireVerdict.INSUFFICIENT_SCOPE]: "INSUFFICIENT_SCOPE",
  [WireVerdict.QUOTA_EXCEEDED]: "QUOTA_EXCEEDED",
  [WireVerdict.RATE_LIMITED]: "RATE_LIMITED",
  [WireVerdict.UNBOUND]: "UNBOUND",
  [WireVerdict.SESSION_EXPIRED]: "SESSION_EXPIRED",
  [WireVerdict.TENANT_MISMATCH]: "TENANT_MISMATCH",
  [WireVerdict.ADDRESS_REQUIRED]: "ADDRESS_REQUIRED",
  [WireVerdict.ADDRESS_NOT_ALLOWED]: "ADDRESS_NOT_ALLOWED",
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
