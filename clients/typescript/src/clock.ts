/** Time, and waiting: everything in this client that depends on time asks a clock, so that tests can be the clock. */
export interface Clock {
  /** Milliseconds since the epoch, as `Date.now()`. */
  now(): number;
  /** Milliseconds on a clock that never goes back, as `performance.now()`. */
  monotonic(): number;
  /** Calls back once, after so many milliseconds; the function returned prevents it. */
  after(milliseconds: number, callback: () => void): () => void;
}

/** The machine's own. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
};

/** A point in time, on both clocks. */
export interface Moment {
  readonly wall: number;
  readonly monotonic: number;
}

export function moment(clock: Clock): Moment {
  return { wall: clock.now(), monotonic: clock.monotonic() };
}

/**
 * Milliseconds since a moment, by whichever clock says more. The monotonic one stands still while a machine or a
 * function's sandbox is suspended; the other one may be set back.
 */
export function elapsed(clock: Clock, since: Moment): number {
  return Math.max(clock.monotonic() - since.monotonic, clock.now() - since.wall);
}

/** Waits; an abort ends the wait early, without an error. */
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
