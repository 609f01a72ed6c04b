import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  DecidedBy as WireDecidedBy,
  type LimitDecision as WireDecision,
} from "../gen/tenantauth/v1/limit_pb.js";
import { printable } from "../printable.js";
import { milliseconds } from "../wire.js";

/** Where a limit was decided. */
export type DecidedBy =
  /** From the lease of the replica, or from what the database said when it last refused. */
  | "LEASE"
  /** By the database, for this request. */
  | "DATABASE"
  /** From the lease of the replica while the database does not respond. */
  | "LOCAL_SHARE"
  /** The limit was not checked, because the database does not respond and the limit is open then. */
  | "OUTAGE_POLICY"
  /** This version does not know it. */
  | "UNRECOGNIZED";

/** What one limit says about a request. Amounts are exact up to 2^53. */
export interface LimitDecision {
  /** The name of the limit. */
  readonly name: string;
  /** The metric that it limits. */
  readonly metric: string;
  /** The amount of a quota, the capacity of a rate's bucket, or the balance of credits when it was last read. */
  readonly limit: number;
  /** What is left, at least; 0 if nothing is left or nothing is known. */
  readonly remaining: number;
  /** The length of a quota's window, or the time in which a rate's empty bucket fills. Absent for credits. */
  readonly windowMs?: number;
  /** Time until the window ends, the bucket is full, or the next refill. Absent if nothing is added by itself. */
  readonly resetAfterMs?: number;
  /** If exceeded: the earliest time after which a retry can succeed. Absent if no time is known. */
  readonly retryAfterMs?: number;
  /** Where it was decided. */
  readonly decidedBy: DecidedBy;
  /** Whether the limit has less left than the request costs. */
  readonly exceeded: boolean;
  /** Whether the limit is a shadow limit: `exceeded` does not deny the request. */
  readonly shadow: boolean;
  /** The start of the window that the amount is counted in. Absent for credits and rates. */
  readonly windowStart?: Date;
}

const DECIDED_BY: Readonly<Record<number, DecidedBy>> = {
  [WireDecidedBy.LEASE]: "LEASE",
  [WireDecidedBy.DATABASE]: "DATABASE",
  [WireDecidedBy.LOCAL_SHARE]: "LOCAL_SHARE",
  [WireDecidedBy.OUTAGE_POLICY]: "OUTAGE_POLICY",
};

export function decisionFromWire(wire: WireDecision): LimitDecision {
  const { name, metric, exceeded, shadow, window, resetAfter, retryAfter, windowStart } = wire;
  return printable({
    name,
    metric,
    limit: Number(wire.limit),
    remaining: Number(wire.remaining),
    ...(window && { windowMs: milliseconds(window) }),
    ...(resetAfter && { resetAfterMs: milliseconds(resetAfter) }),
    ...(retryAfter && { retryAfterMs: milliseconds(retryAfter) }),
    decidedBy: DECIDED_BY[wire.decidedBy] ?? "UNRECOGNIZED",
    exceeded,
    shadow,
    ...(windowStart && { windowStart: timestampDate(windowStart) }),
  });
}

/**
 * The time after which a retry can succeed: that of the limit that recovers last. `undefined` if no limit denies the
 * request, or one of those that do may never recover by itself.
 */
export function retryAfterOf(limits: readonly LimitDecision[]): number | undefined {
  const delays = limits.filter(({ exceeded, shadow }) => exceeded && !shadow).map((one) => one.retryAfterMs);
  const known = delays.filter((delay) => delay !== undefined);
  return known.length === 0 || known.length < delays.length ? undefined : Math.max(...known);
}
