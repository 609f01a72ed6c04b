import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

/** A span of the wire in milliseconds, fractions included; absent or negative is 0. */
export function milliseconds(duration: Duration | undefined): number {
  if (duration === undefined) return 0;
  return Math.max(0, Number(duration.seconds) * 1000 + duration.nanos / 1e6);
}

/** A span for the wire. */
export function duration(name: string, spanMs: number): Duration {
  if (!Number.isFinite(spanMs) || spanMs < 0) throw new TypeError(`${name} must be a number of milliseconds`);
  const whole = Math.floor(spanMs / 1000);
  return create(DurationSchema, {
    seconds: BigInt(whole),
    nanos: Math.min(999_999_999, Math.round((spanMs - whole * 1000) * 1e6)),
  });
}

/** A point in time for the wire. */
export function timestamp(name: string, date: Date): Timestamp {
  const time = date.getTime();
  if (Number.isNaN(time)) throw new TypeError(`${name} must be a valid Date`);
  return timestampFromMs(time);
}

/** A whole number for the wire. */
export function int64(name: string, value: number | bigint): bigint {
  if (typeof value === "bigint") return value;
  if (!Number.isSafeInteger(value)) throw new TypeError(`${name} must be a whole number`);
  return BigInt(value);
}

/** Refuses what is no text before it gets into an encoder whose errors might quote it. */
export function text(name: string, value: string): string {
  if (typeof value !== "string") throw new TypeError(`${name} must be a string`);
  return value;
}
