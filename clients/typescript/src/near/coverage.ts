import { type Clock, elapsed, type Moment, moment } from "../clock.js";

/** A watch stream without an event for longer than this is dead: the service sends a heartbeat each second. */
export const LONGEST_SILENCE_MS = 3000;

/**
 * Tracks whether the watch stream is continuous. Each period without a gap has a number (epoch). An answer that was
 * requested in the current epoch may be cached for its `cacheableWhileWatchedMs`.
 */
export class Coverage {
  readonly #clock: Clock;
  #stretch = 0;
  #heard: Moment | undefined;
  #floor = 0n;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The current epoch; `undefined` if the stream is not live. */
  stretch(): number | undefined {
    return this.live() ? this.#stretch : undefined;
  }

  /**
   * Answers below this revision may have missed a change: it was made before the epoch, or its change mark was evicted.
   */
  get floor(): bigint {
    return this.#floor;
  }

  live(): boolean {
    return this.#heard !== undefined && elapsed(this.#clock, this.#heard) <= LONGEST_SILENCE_MS;
  }

  /** Records an event. After a silence longer than the timeout, it starts a new epoch. */
  heard(revision: bigint): void {
    if (!this.live()) this.broken(revision);
    this.#heard = moment(this.#clock);
  }

  /** Starts a new epoch, because events were missed. */
  broken(revision: bigint): void {
    this.#stretch += 1;
    this.#floor = revision;
  }

  /** Raises the minimum revision, because change marks up to this revision were evicted. */
  raiseFloor(revision: bigint): void {
    if (revision > this.#floor) this.#floor = revision;
  }

  /** Marks the stream as not live until its next event. */
  lost(): void {
    this.#heard = undefined;
  }
}
