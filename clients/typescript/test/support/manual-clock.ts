import type { Clock } from "../../src/clock.js";

/** A clock that tests advance. */
export class ManualClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  #monotonic = 0;
  #timers: { readonly due: number; readonly callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(milliseconds: number, callback: () => void): () => void {
    const timer = { due: this.#monotonic + milliseconds, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Number of pending callbacks. */
  get waiting(): number {
    return this.#timers.length;
  }

  /** Milliseconds until the next callback is due. */
  get nextIn(): number {
    return Math.min(...this.#timers.map(({ due }) => due)) - this.#monotonic;
  }

  /** Advances the clock, and calls the due callbacks in order. */
  advance(milliseconds: number): void {
    const end = this.#monotonic + milliseconds;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.due <= end).sort((a, b) => a.due - b.due)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#pass(Math.max(0, due.due - this.#monotonic));
      due.callback();
    }
    this.#pass(end - this.#monotonic);
  }

  /** Advances only the wall clock, as when a suspended machine wakes up. */
  jump(milliseconds: number): void {
    this.#now += milliseconds;
  }

  #pass(milliseconds: number): void {
    this.#monotonic += milliseconds;
    this.#now += milliseconds;
  }
}
