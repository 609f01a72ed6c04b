import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

/** Converts a duration to milliseconds, with fractions. Absent or negative is 0. */
export function milliseconds(duration: Duration | undefined): number {
  if (duration === undefined) return 0;
  return Math.max(0, Number(duration.seconds) * 1000 + duration.nanos / 1e6);
}

/** Ten thousand years, the maximum of the protobuf Duration. */
const MAX_DURATION_MS = 315_576_000_000_000;

/** Converts milliseconds to a duration. */
export function duration(name: string, spanMs: number): Duration {
  if (typeof spanMs !== "number" || !(spanMs >= 0 && spanMs <= MAX_DURATION_MS)) {
    throw new TypeError(`${name} must be a number of milliseconds from 0 to ${MAX_DURATION_MS}`);
  }
  const whole = Math.floor(spanMs / 1000);
  return create(DurationSchema, {
    seconds: BigInt(whole),
    nanos: Math.min(999_999_999, Math.round((spanMs - whole * 1000) * 1e6)),
  });
}

/** Converts a date to a timestamp. */
export function timestamp(name: string, date: Date): Timestamp {
  const time = date instanceof Date ? date.getTime() : Number.NaN;
  // The range of the protobuf Timestamp: the years 1 to 9999.
  if (!(time >= -62_135_596_800_000 && time <= 253_402_300_799_999)) {
    throw new TypeError(`${name} must be a valid Date of the years 1 to 9999`);
  }
  return timestampFromMs(time);
}

/** Converts a whole number to a 64-bit integer. */
export function int64(name: string, value: number | bigint): bigint {
  const whole = typeof value === "bigint" || Number.isSafeInteger(value);
  if (!whole || BigInt.asIntN(64, BigInt(value)) !== BigInt(value)) {
    throw new TypeError(`${name} must be a whole number of at most 64 bits`);
  }
  return BigInt(value);
}

/** Rejects values that are not text before they reach an encoder whose errors might quote them. */
export function text(name: string, value: string): string {
  if (typeof value !== "string") throw new TypeError(`${name} must be a string`);
  if (!value.isWellFormed()) throw new TypeError(`${name} must be well-formed Unicode`);
  return value;
}
