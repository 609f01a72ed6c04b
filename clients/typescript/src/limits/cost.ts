import { METRIC } from "../usage-event.js";
import { int64, text } from "../wire.js";

/** An amount of a metric. */
export interface Cost {
  /** Name of the metric in lower case, such as `api.calls`. Each metric may occur once. */
  readonly metric: string;
  /** The amount; a whole number from 1 to 1,000,000,000. The actual amount of a reservation may also be 0. */
  readonly amount: number | bigint;
}

/** Converts amounts. Throws a `TypeError` for a value that no message can carry; the service checks the ranges. */
export function costsToWire(name: string, costs: readonly Cost[]): { metric: string; amount: bigint }[] {
  if (!Array.isArray(costs))
    throw new TypeError(`${name} must be a list, such as [{ metric: "api.calls", amount: 1 }]`);
  return costs.map((cost: Cost | null, at) => ({
    metric: text(`${name}[${at}].metric`, cost?.metric as string),
    amount: int64(`${name}[${at}].amount`, cost?.amount as number),
  }));
}

const MAX_COSTS = 16;
const MAX_AMOUNT = 1_000_000_000;

/** Rejects amounts that the service would reject, with a `TypeError` that names the value and what is allowed. */
export function checkedCosts(name: string, costs: readonly Cost[]): void {
  const amounts = costsToWire(name, costs);
  if (amounts.length === 0 || amounts.length > MAX_COSTS)
    throw new TypeError(`${name} must have 1 to ${MAX_COSTS} entries`);
  for (const [at, { metric, amount }] of amounts.entries()) {
    if (!METRIC.test(metric))
      throw new TypeError(
        `${name}[${at}].metric must be a lower-case letter, then up to 63 characters of a-z 0-9 _ and the full stop`,
      );
    if (amounts.findIndex((other) => other.metric === metric) !== at)
      throw new TypeError(`${name}[${at}].metric occurs twice: add the amounts`);
    if (amount < 1n || amount > MAX_AMOUNT)
      throw new TypeError(`${name}[${at}].amount must be a whole number from 1 to ${MAX_AMOUNT}`);
  }
}
