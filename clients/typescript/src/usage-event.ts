import type { UsageEvent } from "./usage.js";

/** The contract's form of the name of a metric. */
export const METRIC = /^[a-z][a-z0-9_.]{0,63}$/;

const MAX_QUANTITY = 1_000_000_000_000;
const MIN_TIME_MS = 0;
/** The last millisecond of the year 9999. */
const MAX_TIME_MS = 253_402_300_799_999;

/**
 * Creates an event that the contract accepts. Invalid events are rejected here, where the error reaches the code that
 * recorded them; in a batch they would affect other events.
 */
export function usageEvent(
  tenantId: string,
  metric: string,
  quantity: number | bigint,
  at: Date,
): UsageEvent {
  if (typeof tenantId !== "string" || !/^[A-Za-z0-9_-]{1,64}$/.test(tenantId)) {
    throw new TypeError("tenantId must be 1 to 64 characters of A-Z a-z 0-9 _ -");
  }
  if (typeof metric !== "string" || !METRIC.test(metric)) {
    throw new TypeError(
      "metric must be a lower-case letter, then up to 63 characters of a-z 0-9 _ and the full stop",
    );
  }
  const whole = typeof quantity === "bigint" || (typeof quantity === "number" && Number.isInteger(quantity));
  if (!whole || quantity < 0 || quantity > MAX_QUANTITY) {
    throw new TypeError(`quantity must be a whole number from 0 to ${MAX_QUANTITY}`);
  }
  const time = at instanceof Date ? at.getTime() : Number.NaN;
  if (!(time >= MIN_TIME_MS && time <= MAX_TIME_MS))
    throw new TypeError("at must be a valid Date of the years 1970 to 9999");
  // The Date is copied because its owner may change it. A number can hold the quantity exactly, and can be stored as
  // JSON if the event stays unsent.
  return Object.freeze({ tenantId, metric, quantity: Number(quantity), occurredAt: new Date(time) });
}
