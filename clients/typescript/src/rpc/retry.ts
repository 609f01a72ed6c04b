import type { TenantAuthError } from "../error.js";

const FIRST_BACKOFF_MS = 50;
const LONGEST_BACKOFF_MS = 1000;
/** How often a call is sent at most, hedges not counted. */
export const MAX_ATTEMPTS = 4;

/** A token bucket: each call puts in a part of a retry, each retry takes one out. */
export class RetryBudget {
  readonly #perCall: number;
  readonly #capacity: number;
  #tokens: number;

  /** `perCall` is the share of calls that may be retried; the bucket starts full, so that a quiet client can retry. */
  constructor(perCall: number, capacity = 10) {
    this.#perCall = perCall;
    this.#capacity = capacity;
    this.#tokens = perCall > 0 ? capacity : 0;
  }

  /** Whether there are retries at all. */
  get enabled(): boolean {
    return this.#perCall > 0;
  }

  deposit(): void {
    this.#tokens = Math.min(this.#capacity, this.#tokens + this.#perCall);
  }

  withdraw(): boolean {
    // A hair less than one will do: ten tenths add up to a little less than one.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens = Math.max(0, this.#tokens - 1);
    return true;
  }
}

/** Whether asking again at once, elsewhere or a little later is sensible. A deadline has used up the time for it. */
export function retriable(error: TenantAuthError): boolean {
  return error.kind === "unavailable" || (error.kind === "overloaded" && error.retryAfterMs !== undefined);
}

/** How long to wait before a retry: not less than the service wants, and never in step with other clients. */
export function retryDelay(error: TenantAuthError, retriesBefore: number): number {
  return (error.retryAfterMs ?? 0) + fullJitter(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, retriesBefore);
}

/** Somewhere between nothing and a span that doubles each time. */
export function fullJitter(firstMs: number, longestMs: number, before: number): number {
  return Math.random() * Math.min(longestMs, firstMs * 2 ** before);
}
