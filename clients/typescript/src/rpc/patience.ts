import type { Clock } from "../clock.js";
import { deadlineExceeded } from "../error.js";

/** Waits for something no longer than one caller wants; what is waited for goes on, maybe for others. */
export function patiently<T>(
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
