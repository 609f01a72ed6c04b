import type { Clock } from "../clock.js";
import { deadlineExceeded } from "../error.js";

/** Waits for a promise with one caller's timeout. The underlying work continues, possibly for other callers. */
export function withTimeout<T>(
  answer: Promise<T>,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const done = (): void => {
      cancel();
      signal?.removeEventListener("abort", aborted);
    };
    const aborted = (): void => {
      done();
      reject(signal?.reason);
    };
    const cancel = clock.after(timeoutMs, () => {
      done();
      reject(deadlineExceeded());
    });
    signal?.addEventListener("abort", aborted, { once: true });
    answer.finally(done).then(resolve, reject);
  });
}
