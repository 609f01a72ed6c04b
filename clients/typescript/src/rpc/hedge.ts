import type { Clock } from "../clock.js";
import type { Replica } from "../net/replica.js";

/** A message on its way to one replica, and to another one if the first leaves it unanswered. */
export interface Hedged<T> {
  readonly clock: Clock;
  readonly first: Replica;
  /** When the first counts as slow, in milliseconds. It is then asked for a sign of life. */
  readonly afterMs: number;
  /** Gives another replica to ask then; `undefined` when there is none, or the message must not be sent twice. */
  readonly other: () => Replica | undefined;
  readonly ask: (replica: Replica, signal: AbortSignal) => Promise<T>;
  /** Whether another replica may do better than one that failed so. */
  readonly hopeful: (error: unknown) => boolean;
  readonly signal: AbortSignal | undefined;
}

/** The first answer; whoever has not answered by then is told that nobody waits any more. */
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
      // It may hang as well: then this is known before the time is over.
      void second.check();
      start(second);
    });
    start(first);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}
