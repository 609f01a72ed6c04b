/** The time source of the client. All code that depends on time uses it, so that tests can replace it. */
export interface Clock {
  /** Milliseconds since the epoch, like `Date.now()`. */
  now(): number;
  /** Milliseconds of a monotonic clock, like `performance.now()`. */
  monotonic(): number;
  /** Calls `callback` once after a delay in milliseconds. The returned function cancels it. */
  after(milliseconds: number, callback: () => void): () => void;
}

/** The system clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
};

/** A point in time on both clocks. */
export interface Moment {
  readonly wall: number;
  readonly monotonic: number;
}

export function moment(clock: Clock): Moment {
  return { wall: clock.now(), monotonic: clock.monotonic() };
}

/**
 * Milliseconds since a moment, by the clock that shows more. The monotonic clock stands still while a machine or a
 * function's sandbox is suspended; the wall clock may be set back.
 */
export function elapsed(clock: Clock, since: Moment): number {
  return Math.max(clock.monotonic() - since.monotonic, clock.now() - since.wall);
}

/** Waits. An abort ends the wait early, without an error. */
export function sleep(clock: Clock, milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const end = (): void => {
      cancel();
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.after(milliseconds, end);
    signal?.addEventListener("abort", end, { once: true });
  });
}
