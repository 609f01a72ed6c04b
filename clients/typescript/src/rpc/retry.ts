import type { TenantAuthError } from "../error.js";

const INITIAL_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 1000;
/** Maximum number of attempts of a call, not counting hedges. */
export const MAX_ATTEMPTS = 4;

/** A token bucket: each call deposits a fraction of a retry, each retry withdraws one. */
export class RetryBudget {
  readonly #perCall: number;
  readonly #capacity: number;
  #tokens: number;

  /**
   * `perCall` is the fraction of calls that may be retried. The bucket starts full, so that a client with few calls can
   * retry too.
   */
  constructor(perCall: number, capacity = 10) {
    this.#perCall = perCall;
    this.#capacity = capacity;
    this.#tokens = perCall > 0 ? capacity : 0;
  }

  /** Whether retries are enabled. */
  get enabled(): boolean {
    return this.#perCall > 0;
  }

  deposit(): void {
    this.#tokens = Math.min(this.#capacity, this.#tokens + this.#perCall);
  }

  withdraw(): boolean {
    // Ten tenths add up to slightly less than one.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens = Math.max(0, this.#tokens - 1);
    return true;
  }
}

/** Whether a retry, possibly on another replica, may succeed. After a timeout there is no time left for one. */
export function retriable(error: TenantAuthError): boolean {
  return error.kind === "unavailable" || (error.kind === "overloaded" && error.retryAfterMs !== undefined);
}

/**
 * Returns the delay before a retry: at least the delay that the service asked for, with jitter so that clients do not
 * retry together.
 */
export function retryDelay(error: TenantAuthError, retriesBefore: number): number {
  return (error.retryAfterMs ?? 0) + fullJitter(INITIAL_BACKOFF_MS, MAX_BACKOFF_MS, retriesBefore);
}

/** Returns a random delay below a limit that doubles each time. */
export function fullJitter(firstMs: number, longestMs: number, before: number): number {
  return Math.random() * Math.min(longestMs, firstMs * 2 ** before);
}
