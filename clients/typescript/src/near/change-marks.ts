import { type Clock, elapsed, type Moment, moment } from "../clock.js";

/**
 * How long a change mark is kept. A replica that responds from its cache learns of a change within about six seconds,
 * even if its change feed is silent. A principal token that it signs until then is accepted for another 65 seconds.
 */
const MARK_RETENTION_MS = 75_000;
const MAX_MARKS = 10_000;

interface ChangeMark {
  readonly revision: bigint;
  /** Sequence number of the change, in the order of arrival. */
  readonly sequence: number;
  /** Answers requested before this sequence number are outdated, independently of their revision. */
  readonly notBefore: number;
  readonly at: Moment;
}

/** Prevents outdated answers from being cached when they arrive after a change. */
export class ChangeMarks {
  readonly #clock: Clock;
  readonly #evicted: (revision: bigint) => void;
  /** By subject; the oldest first. */
  readonly #marks = new Map<string, ChangeMark>();
  #sequence = 0;
  #evictedUpTo = 0;

  /** `evicted` is called with the revision of each evicted change mark. */
  constructor(clock: Clock, forgotten: (revision: bigint) => void) {
    this.#clock = clock;
    this.#evicted = forgotten;
  }

  /** The current sequence number, to record when a request is sent. */
  get position(): number {
    return this.#sequence;
  }

  /** Records a change of a subject: at a known revision, or a local change just now. */
  record(subject: string, revision: bigint | undefined): void {
    const before = this.#marks.get(subject);
    const known = before?.revision ?? 0n;
    this.#sequence += 1;
    this.#marks.delete(subject);
    this.#marks.set(subject, {
      revision: revision !== undefined && revision > known ? revision : known,
      sequence: this.#sequence,
      notBefore: revision === undefined ? this.#sequence : (before?.notBefore ?? 0),
      at: moment(this.#clock),
    });
    this.#evictOld();
  }

  /** Marks all answers requested until now as outdated. */
  recordAll(): void {
    this.#sequence += 1;
    this.#evictedUpTo = this.#sequence;
    this.#marks.clear();
  }

  /** Whether no change of these subjects is known since an answer was requested at `position`. */
  isCurrent(subjects: readonly string[], revision: bigint, position: number): boolean {
    // A change mark that was evicted since the request might concern this answer.
    if (position < this.#evictedUpTo) return false;
    return subjects.every((subject) => {
      const mark = this.#marks.get(subject);
      return mark === undefined || (mark.revision <= revision && mark.notBefore <= position);
    });
  }

  /** Whether a change of one of these subjects after a revision is known. */
  hasChangedSince(revision: bigint, subjects: readonly string[]): boolean {
    return subjects.some((subject) => (this.#marks.get(subject)?.revision ?? 0n) > revision);
  }

  #evictOld(): void {
    for (const [subject, mark] of this.#marks) {
      if (this.#marks.size <= MAX_MARKS && elapsed(this.#clock, mark.at) <= MARK_RETENTION_MS) break;
      this.#marks.delete(subject);
      this.#evictedUpTo = mark.sequence;
      this.#evicted(mark.revision);
    }
  }
}
