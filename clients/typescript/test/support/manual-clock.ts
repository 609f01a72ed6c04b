import type { Clock } from "../../src/clock.js";

/** Time that passes when a test says so. */
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

  /** How many callbacks wait. */
  get waiting(): number {
    return this.#timers.length;
  }

  /** In how many milliseconds the next callback is due. */
  get nextIn(): number {
    return Math.min(...this.#timers.map(({ due }) => due)) - this.#monotonic;
  }

  /** Lets time pass, and calls back whoever waited for it, in order. */
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

  /** The wall clock alone jumps, as after a suspended machine wakes. */
  jump(milliseconds: number): void {
    this.#now += milliseconds;
  }

  #pass(milliseconds: number): void {
    this.#monotonic += milliseconds;
    this.#now += milliseconds;
  }
}
