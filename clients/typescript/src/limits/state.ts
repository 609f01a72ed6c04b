import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  CalendarWindow as WireCalendar,
  type Limit as WireLimit,
  OutagePolicy as WireOutagePolicy,
  type LimitState as WireState,
} from "../gen/tenantauth/v1/limit_pb.js";
import { printable } from "../printable.js";
import { milliseconds } from "../wire.js";

/** A calendar window, in UTC. */
export type CalendarWindow = "HOUR" | "DAY" | "MONTH" | "UNRECOGNIZED";

/** What a limit limits. Amounts are exact up to 2^53. */
export type LimitRule =
  /** An amount per window: of the calendar, or any interval of a length in milliseconds. */
  | { readonly kind: "quota"; readonly amount: number; readonly window: CalendarWindow | number }
  /** A balance without a window. */
  | {
      readonly kind: "credits";
      /** The balance at the start. */
      readonly initial: number;
      /** The periodic refill; it raises the balance at most to `maxBalance`, if that is not 0. */
      readonly refill?: {
        readonly amount: number;
        readonly every: CalendarWindow;
        readonly maxBalance: number;
      };
    }
  /** A token bucket: `amount` flows in per `perMs`, and `burst` is its capacity. */
  | { readonly kind: "rate"; readonly amount: number; readonly perMs: number; readonly burst: number }
  /** This version does not know it. */
  | { readonly kind: "unrecognized" };

/** Whose limit it is. */
export type LimitSubject =
  | { readonly plan: string }
  | { readonly tenantId: string }
  | { readonly keyId: string };

/** A limit. */
export interface Limit {
  /** Whose limit it is; `undefined` if this version does not know it. */
  readonly subject: LimitSubject | undefined;
  /** The name, unique for the subject. */
  readonly name: string;
  /** The metric that it limits. */
  readonly metric: string;
  /** What it limits. */
  readonly rule: LimitRule;
  /** What happens when the lease is spent and the database does not respond. */
  readonly onOutage: "OPEN" | "LOCAL_SHARE" | "CLOSED";
  /** If true, the limit never denies a request. */
  readonly shadow: boolean;
  /** Increases with each change. */
  readonly version: bigint;
  /** Time of the last change. */
  readonly updatedAt?: Date;
}

/** One limit and what is used of it, in the database's view. Amounts are exact up to 2^53. */
export interface LimitState {
  /** The limit. */
  readonly limit: Limit;
  /** What was admitted and is counted in the current window. Of a rate: what is missing in the bucket. */
  readonly used: number;
  /** What replicas hold in leases: it counts against the limit and may still be admitted, or be given back. */
  readonly leased: number;
  /** What reservations hold. */
  readonly reserved: number;
  /** What replicas held that ended without saying how much of it they had admitted. It counts as used. */
  readonly unaccounted: number;
  /** What no replica holds. */
  readonly remaining: number;
  /** The start of the current window. Absent for credits and rates. */
  readonly windowStart?: Date;
  /** Time until the window ends, or until the next refill. Absent if nothing is added by itself. */
  readonly resetAfterMs?: number;
}

const CALENDAR: Readonly<Record<number, CalendarWindow>> = {
  [WireCalendar.HOUR]: "HOUR",
  [WireCalendar.DAY]: "DAY",
  [WireCalendar.MONTH]: "MONTH",
};

export function limitStateFromWire(wire: WireState): LimitState | undefined {
  const { limit, windowStart, resetAfter } = wire;
  if (limit === undefined) return undefined;
  return printable({
    limit: limitFromWire(limit),
    used: Number(wire.used),
    leased: Number(wire.leased),
    reserved: Number(wire.reserved),
    unaccounted: Number(wire.unaccounted),
    remaining: Number(wire.remaining),
    ...(windowStart && { windowStart: timestampDate(windowStart) }),
    ...(resetAfter && { resetAfterMs: milliseconds(resetAfter) }),
  });
}

function limitFromWire(wire: WireLimit): Limit {
  const { name, metric, shadow, version, updatedAt } = wire;
  return printable({
    subject: subjectFromWire(wire.subject?.subject),
    name,
    metric,
    rule: ruleFromWire(wire.rule),
    onOutage: outagePolicy(wire.onOutage),
    shadow,
    version,
    ...(updatedAt && { updatedAt: timestampDate(updatedAt) }),
  });
}

function subjectFromWire(
  subject: NonNullable<WireLimit["subject"]>["subject"] | undefined,
): LimitSubject | undefined {
  if (subject?.case === "plan") return { plan: subject.value };
  if (subject?.case === "tenantId") return { tenantId: subject.value };
  return subject?.case === "keyId" ? { keyId: subject.value } : undefined;
}

function ruleFromWire(rule: WireLimit["rule"]): LimitRule {
  if (rule.case === "quota") {
    const { amount, window } = rule.value;
    const span = window.case === "rolling" ? milliseconds(window.value) : calendar(window.value);
    return { kind: "quota", amount: Number(amount), window: span };
  }
  if (rule.case === "credits") {
    const { initial, refill } = rule.value;
    const each = refill && {
      amount: Number(refill.amount),
      every: calendar(refill.every),
      maxBalance: Number(refill.maxBalance),
    };
    return { kind: "credits", initial: Number(initial), ...(each && { refill: each }) };
  }
  if (rule.case !== "rate") return { kind: "unrecognized" };
  const { amount, per, burst } = rule.value;
  return {
    kind: "rate",
    amount: Number(amount),
    perMs: per === undefined ? 1000 : milliseconds(per),
    burst: Number(burst === 0n ? amount : burst),
  };
}

function calendar(window: WireCalendar | undefined): CalendarWindow {
  return (window === undefined ? undefined : CALENDAR[window]) ?? "UNRECOGNIZED";
}

function outagePolicy(policy: WireOutagePolicy): Limit["onOutage"] {
  if (policy === WireOutagePolicy.OPEN) return "OPEN";
  return policy === WireOutagePolicy.LOCAL_SHARE ? "LOCAL_SHARE" : "CLOSED";
}
