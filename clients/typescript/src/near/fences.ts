import { type Clock, elapsed, type Moment, moment } from "../clock.js";

/**
 * How long a change mark is kept. A replica that responds from its cache learns of a change within about six seconds,
 * even if its change feed is silent.
 */
const KEPT_MS = 10_000;
const MOST_KEPT = 10_000;

interface Fence {
  readonly revision: bigint;
  /** Sequence number of the change, in the order of arrival. */
  readonly arrival: number;
  /** Answers requested before this sequence number are outdated, independently of their revision. */
  readonly notBefore: number;
  readonly at: Moment;
}

/** Prevents outdated answers from being cached when they arrive after a change. */
export class Fences {
  readonly #clock: Clock;
  readonly #forgotten: (revision: bigint) => void;
  /** By subject; the oldest first. */
  readonly #fences = new Map<string, Fence>();
  #arrivals = 0;
  #forgottenUpTo = 0;

  /** `evicted` is called with the revision of each evicted change mark. */
  constructor(clock: Clock, forgotten: (revision: bigint) => void) {
    this.#clock = clock;
    this.#forgotten = forgotten;
  }

  /** The current sequence number, to record when a request is sent. */
  get position(): number {
    return this.#arrivals;
  }

  /** Records a change of a subject: at a known revision, or a local change just now. */
  raise(subject: string, revision: bigint | undefined): void {
    const before = this.#fences.get(subject);
    const known = before?.revision ?? 0n;
    this.#arrivals += 1;
    this.#fences.delete(subject);
    this.#fences.set(subject, {
      revision: revision !== undefined && revision > known ? revision : known,
      arrival: this.#arrivals,
      notBefore: revision === undefined ? this.#arrivals : (before?.notBefore ?? 0),
      at: moment(this.#clock),
    });
    this.#forgetOld();
  }

  /** Marks all answers requested until now as outdated. */
  raiseForAll(): void {
    this.#arrivals += 1;
    this.#forgottenUpTo = this.#arrivals;
    this.#fences.clear();
  }

  /** Whether no change of these subjects is known since an answer was requested at `position`. */
  admit(subjects: readonly string[], revision: bigint, position: number): boolean {
    // A change mark that was evicted since the request might concern this answer.
    if (position < this.#forgottenUpTo) return false;
    return subjects.every((subject) => {
      const fence = this.#fences.get(subject);
      return fence === undefined || (fence.revision <= revision && fence.notBefore <= position);
    });
  }

  #forgetOld(): void {
    for (const [subject, fence] of this.#fences) {
      if (this.#fences.size <= MOST_KEPT && elapsed(this.#clock, fence.at) <= KEPT_MS) break;
      this.#fences.delete(subject);
      this.#forgottenUpTo = fence.arrival;
      this.#forgotten(fence.revision);
    }
  }
}
