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
  readonly ask: (replica: Replica, signal: AbortSignal) => Promise<T>;
  /** Whether another replica may succeed after this error. */
  readonly hopeful: (error: unknown) => boolean;
  readonly signal: AbortSignal | undefined;
}

/** Returns the first response, and cancels the other attempt. */
export function hedged<T>(options: Hedged<T>): Promise<T> {
  const { clock, first, afterMs, other, ask, hopeful, signal } = options;
  return new Promise((resolve, reject) => {
    const asked = new Set<AbortController>();
    const abort = (): void => {
      for (const one of asked) one.abort(signal?.reason);
    };
    const over = (): void => {
      cancel();
      signal?.removeEventListener("abort", abort);
      abort();
    };
    const start = (replica: Replica): void => {
      const mine = new AbortController();
      asked.add(mine);
      ask(replica, mine.signal).then(
        (answer) => {
          asked.delete(mine);
          over();
          resolve(answer);
        },
        (error: unknown) => {
          asked.delete(mine);
          if (asked.size > 0 && hopeful(error)) return;
          over();
          reject(error);
        },
      );
    };
    const cancel = clock.after(afterMs, () => {
      void first.suspect();
      const second = other();
      if (second === undefined) return;
      // The second replica may hang too. This detects it before the timeout.
      void second.check();
      start(second);
    });
    start(first);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}
