import type { Clock } from "../clock.js";
import { clientClosed } from "../error.js";
import type { Coverage } from "../near/coverage.js";
import type { Validators } from "./check.js";
import { undecidedEnd } from "./stream-end.js";
import type { StreamGuard } from "./stream-guard.js";

/** How often guards without the protection of the watch stream are looked at. */
export const TICK_MS = 1000;

/** Validations at a time. After a gap of the watch stream, all guards validate again. */
const MAX_CONCURRENT = 100;

/** All guards of a client, by the subjects that the watch stream may name. */
export class Guards {
  readonly clock: Clock;
  /** Default timeout of a validation, in milliseconds. */
  readonly timeoutMs: number;
  readonly validators: Validators;
  readonly #coverage: Coverage | undefined;
  readonly #all = new Map<StreamGuard, ReadonlySet<string>>();
  readonly #bySubject = new Map<string, Set<StreamGuard>>();
  /** Guards whose last answer may have missed a change. */
  readonly #uncovered = new Set<StreamGuard>();
  readonly #waiting: (() => void)[] = [];
  #active = 0;
  #epoch: number | undefined;
  #cancelTick: (() => void) | undefined;

  constructor(clock: Clock, coverage: Coverage | undefined, timeoutMs: number, validators: Validators) {
    this.clock = clock;
    this.timeoutMs = timeoutMs;
    this.#coverage = coverage;
    this.validators = validators;
  }

  /** Number of guards that are not released. */
  get size(): number {
    return this.#all.size;
  }

  /** Adds a guard, or adds subjects to it. Returns whether one of the subjects is new. */
  register(guard: StreamGuard, subjects: Iterable<string>): boolean {
    if (this.#all.size === 0) {
      this.#epoch = this.#coverage?.epoch();
      this.#cancelTick = this.clock.after(TICK_MS, () => this.#tick());
    }
    const before = this.#all.get(guard) ?? new Set();
    const added = [...subjects].filter((name) => !before.has(name));
    this.#all.set(guard, new Set([...before, ...added]));
    for (const name of added) {
      const about = this.#bySubject.get(name);
      if (about === undefined) this.#bySubject.set(name, new Set([guard]));
      else about.add(guard);
    }
    return added.length > 0;
  }

  remove(guard: StreamGuard): void {
    for (const name of this.#all.get(guard) ?? []) {
      const about = this.#bySubject.get(name);
      about?.delete(guard);
      if (about?.size === 0) this.#bySubject.delete(name);
    }
    this.#all.delete(guard);
    this.#uncovered.delete(guard);
    if (this.#all.size === 0) this.#cancelTick?.();
  }

  /** Notes whether the watch stream would name every change of a guard's subjects since its last answer. */
  setCovered(guard: StreamGuard, isCovered: boolean): void {
    if (isCovered) this.#uncovered.delete(guard);
    else if (this.#all.has(guard)) this.#uncovered.add(guard);
  }

  /** A subject has changed; `undefined`: any may have. */
  changed(subject: string | undefined): void {
    const about = subject === undefined ? this.#all.keys() : (this.#bySubject.get(subject) ?? []);
    for (const guard of [...about]) guard.changed();
  }

  /** Runs a validation when fewer than the maximum are running. */
  async limited<T>(validate: () => Promise<T>): Promise<T> {
    if (this.#active >= MAX_CONCURRENT) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#active += 1;
    try {
      return await validate();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#active -= 1;
      else next();
    }
  }

  /** Ends all streams, because nothing can be validated any more. */
  close(): void {
    for (const guard of [...this.#all.keys()]) guard.end(undecidedEnd(clientClosed()));
  }

  #tick(): void {
    this.#cancelTick = this.clock.after(TICK_MS, () => this.#tick());
    const epoch = this.#coverage?.epoch();
    if (epoch !== this.#epoch) for (const guard of this.#all.keys()) this.#uncovered.add(guard);
    this.#epoch = epoch;
    for (const guard of [...this.#uncovered]) guard.tick();
  }
}
