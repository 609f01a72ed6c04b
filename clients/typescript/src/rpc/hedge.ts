import type { Clock } from "../clock.js";
import type { Replica } from "../net/replica.js";

/** A request to one replica, and to another one if the response is late. */
export interface Hedged<T> {
  readonly clock: Clock;
  readonly first: Replica;
  /** Time after which the response counts as late, in milliseconds. The replica then gets a liveness check. */
  readonly afterMs: number;
  /** Returns another replica for the hedge; `undefined` if there is none, or the request must not be sent twice. */
  readonly other: () => Replica | undefined;
  readonly send: (replica: Replica, signal: AbortSignal) => Promise<T>;
  /** Whether another replica may succeed after this error. */
  readonly canRetry: (error: unknown) => boolean;
  readonly signal: AbortSignal | undefined;
}

/** Returns the first response, and cancels the other attempt. */
export function hedged<T>(options: Hedged<T>): Promise<T> {
  const { clock, first, afterMs, other, send, canRetry, signal } = options;
  return new Promise((resolve, reject) => {
    const attempts = new Set<AbortController>();
    const abort = (): void => {
      for (const one of attempts) one.abort(signal?.reason);
    };
    const over = (): void => {
      cancel();
      signal?.removeEventListener("abort", abort);
      abort();
    };
    const start = (replica: Replica): void => {
      const mine = new AbortController();
      attempts.add(mine);
      send(replica, mine.signal).then(
        (answer) => {
          attempts.delete(mine);
          over();
          resolve(answer);
        },
        (error: unknown) => {
          attempts.delete(mine);
          if (attempts.size > 0 && canRetry(error)) return;
          over();
          reject(error);
        },
      );
    };
    const cancel = clock.after(afterMs, () => {
      void first.checkLiveness();
      const second = other();
      if (second === undefined) return;
      // The second replica may hang too. This detects it before the timeout.
      void second.ping();
      start(second);
    });
    start(first);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}
