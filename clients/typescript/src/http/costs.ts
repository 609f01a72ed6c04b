import * as checks from "../checks.js";
import { type Cost, checkedCosts } from "../limits/cost.js";
import type { Consumption, LimitOutcome } from "../limits/outcome.js";
import type { Validation } from "../validation.js";

/** The options of a validation by an adapter. */
interface Conditions {
  readonly scopes?: readonly string[];
  readonly clientAddress?: string | undefined;
}

/** The part of a `Client` that an adapter needs. */
export interface KeyValidator {
  validateKey(
    key: string,
    options?: Conditions & { readonly timeoutMs?: number | undefined },
  ): Promise<Validation>;
  /** Needed for the option `costs`. */
  readonly limits?: {
    consume(
      credential: Conditions & { readonly key: string },
      costs: readonly Cost[],
      options?: { readonly timeoutMs?: number | undefined },
    ): Promise<Consumption>;
  };
}

/** What a request takes from the limits of its key: always the same, or a function of the request. */
export type RequestCosts<R> = readonly Cost[] | ((request: R) => readonly Cost[] | Promise<readonly Cost[]>);

/** The key of a request and its conditions. */
export interface KeyQuery extends Conditions {
  readonly key: string;
}

/**
 * Returns the function that decides about the key of a request: one call to validate it, and to take the costs if there are
 * any.
 */
export function decider<R>(
  client: KeyValidator,
  costs: RequestCosts<R> | undefined,
  timeoutMs: number | undefined,
): (query: KeyQuery, request: R) => Promise<LimitOutcome> {
  checks.withMethod("client", client, "validateKey");
  const { limits } = client;
  if (costs !== undefined && typeof costs !== "function") checkedCosts("costs", costs);
  if (costs !== undefined && typeof limits?.consume !== "function")
    throw new TypeError("client must have a method limits.consume for costs, such as a Client");
  return async (query, request) => {
    const taken = typeof costs === "function" ? await costs(request) : (costs ?? []);
    // An empty list of the function: this request takes nothing.
    if (limits !== undefined && !(Array.isArray(taken) && taken.length === 0))
      return await limits.consume(query, taken, { timeoutMs });
    const { key, ...conditions } = query;
    const validation = await client.validateKey(key, { ...conditions, timeoutMs });
    return { verdict: validation.verdict, allowed: validation.valid, validation, limits: [] };
  };
}
