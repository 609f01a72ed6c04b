import { type Clock, elapsed, type Moment, moment } from "../clock.js";

/** A watch stream without an event for longer than this is dead: the service sends a heartbeat each second. */
export const LIVENESS_TIMEOUT_MS = 3000;

/**
 * Tracks whether the watch stream is continuous. Each period without a gap has a number (epoch). An answer that was
 * requested in the current epoch may be cached for its `cacheableWhileWatchedMs`.
 */
export class Coverage {
  readonly #clock: Clock;
  #epoch = 0;
  #lastEvent: Moment | undefined;
  #minRevision = 0n;
  #epochRevision = 0n;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The current epoch; `undefined` if the stream is not live. */
  epoch(): number | undefined {
    return this.live() ? this.#epoch : undefined;
  }

  /**
   * Answers below this revision may have missed a change: it was made before the epoch, or its change mark was evicted.
   */
  get minRevision(): bigint {
    return this.#minRevision;
  }

  /** Changes up to this revision were made before the epoch, so an answer below it may have missed one. */
  get epochRevision(): bigint {
    return this.#epochRevision;
  }

  live(): boolean {
    return this.#lastEvent !== undefined && elapsed(this.#clock, this.#lastEvent) <= LIVENESS_TIMEOUT_MS;
  }

  /** Records an event. After a silence longer than the timeout, it starts a new epoch. */
  recordEvent(revision: bigint): void {
    if (!this.live()) this.startEpoch(revision);
    this.#lastEvent = moment(this.#clock);
  }

  /** Starts a new epoch, because events were missed. */
  startEpoch(revision: bigint): void {
    this.#epoch += 1;
    this.#minRevision = revision;
    this.#epochRevision = revision;
  }

  /** Raises the minimum revision, because change marks up to this revision were evicted. */
  raiseMinRevision(revision: bigint): void {
    if (revision > this.#minRevision) this.#minRevision = revision;
  }

  /** Marks the stream as not live until its next event. */
  markNotLive(): void {
    this.#lastEvent = undefined;
  }
}
