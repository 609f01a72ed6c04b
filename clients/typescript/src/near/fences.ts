import { type Clock, elapsed, type Moment, moment } from "../clock.js";

/**
 * How long an invalidation is kept to compare answers with: a replica that answers from its memory learns of a change
 * within about six seconds even while it is told nothing.
 */
const KEPT_MS = 10_000;
const MOST_KEPT = 10_000;

interface Fence {
  readonly revision: bigint;
  /** Its place in the order of arrival. */
  readonly arrival: number;
  /** Answers asked for before this place are out of date whatever revision they have. */
  readonly notBefore: number;
  readonly at: Moment;
}

/** Keeps answers from before a change out of memory when they arrive after the news of it. */
export class Fences {
  readonly #clock: Clock;
  readonly #forgotten: (revision: bigint) => void;
  /** By subject; the oldest first. */
  readonly #fences = new Map<string, Fence>();
  #arrivals = 0;
  #forgottenUpTo = 0;

  /** `forgotten` is told the revision of each invalidation that is not compared with any more. */
  constructor(clock: Clock, forgotten: (revision: bigint) => void) {
    this.#clock = clock;
    this.#forgotten = forgotten;
  }

  /** The present place in the order of arrival, to note when a request is sent. */
  get position(): number {
    return this.#arrivals;
  }

  /** A subject changed: at a known revision, or just now by our own doing. */
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

  /** Everything asked for until now is out of date. */
  raiseForAll(): void {
    this.#arrivals += 1;
    this.#forgottenUpTo = this.#arrivals;
    this.#fences.clear();
  }

  /** Whether an answer about these subjects, asked for at `position`, is still true as far as is known. */
  admit(subjects: readonly string[], revision: bigint, position: number): boolean {
    // What was forgotten since the request was sent might have been about this answer.
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
