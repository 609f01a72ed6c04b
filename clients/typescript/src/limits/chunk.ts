import { type Clock, elapsed, type Moment, sleep } from "../clock.js";
import { TenantAuthError } from "../error.js";
import { fullJitter } from "../rpc/retry.js";
import { warn } from "../warning.js";
import type { Reservation } from "./reservation.js";

/** A chunk is settled this long before its expiry, at which it would be charged whole. */
const MARGIN_MS = 3000;
const INITIAL_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 1000;

/** What a chunk is made of. */
export interface ChunkOptions {
  readonly clock: Clock;
  readonly metric: string;
  readonly reservation: Reservation;
  readonly amount: number;
  /** When the reservation was requested. */
  readonly start: Moment;
  /** Ends the attempts to settle. */
  readonly stop: AbortSignal;
  /** Called when nothing more can be taken from the chunk. */
  readonly onRetired: (chunk: Chunk) => void;
}

/** An amount that this process has reserved and spends locally, until shortly before the reservation expires. */
export class Chunk {
  readonly #options: ChunkOptions;
  readonly #cancelTimer: () => void;
  #used = 0;
  #settled: Promise<void> | undefined;

  constructor(options: ChunkOptions) {
    this.#options = options;
    const { clock, start } = options;
    const ms = Math.max(0, this.#usableMs - elapsed(clock, start));
    this.#cancelTimer = clock.after(ms, () => void this.retire());
  }

  /** What can still be taken. */
  get left(): number {
    const { clock, start, amount } = this.#options;
    const isOver = this.#settled !== undefined || elapsed(clock, start) >= this.#usableMs;
    return isOver ? 0 : amount - this.#used;
  }

  /** Takes an amount that was just left. */
  take(amount: number): void {
    this.#used += amount;
    if (this.#used === this.#options.amount) void this.retire();
  }

  /** Takes nothing more, and settles what was used. Never rejects. */
  retire(): Promise<void> {
    if (this.#settled === undefined) {
      this.#cancelTimer();
      this.#settled = this.#settle();
      this.#options.onRetired(this);
    }
    return this.#settled;
  }

  get #usableMs(): number {
    return this.#options.reservation.expiresInMs - MARGIN_MS;
  }

  async #settle(): Promise<void> {
    const { clock, metric, reservation, start, stop, amount } = this.#options;
    for (let failures = 0; ; failures += 1) {
      try {
        await reservation.settle([{ metric, amount: this.#used }]);
        return;
      } catch (error) {
        const isTransient = error instanceof TenantAuthError && error.transient;
        const isOver = stop.aborted || elapsed(clock, start) >= reservation.expiresInMs;
        if (!isTransient || isOver) {
          const lost = amount - this.#used;
          if (lost > 0) warn(`${lost} ${metric} that were reserved and not used count as used`);
          return;
        }
        await sleep(clock, fullJitter(INITIAL_BACKOFF_MS, MAX_BACKOFF_MS, failures), stop);
      }
    }
  }
}
