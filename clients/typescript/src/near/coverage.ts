import { type Clock, elapsed, type Moment, moment } from "../clock.js";

/** A watch that is silent for longer is dead: the service sends a heartbeat each second. */
export const LONGEST_SILENCE_MS = 3000;

/**
 * Whether this process has been told of every change without a gap. A stretch without a gap has a number; an answer that
 * was asked for in the present stretch may be used for its `cacheableWhileWatchedMs`.
 */
export class Coverage {
  readonly #clock: Clock;
  #stretch = 0;
  #heard: Moment | undefined;
  #floor = 0n;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The number of the present stretch; `undefined` when the watch is not alive. */
  stretch(): number | undefined {
    return this.live() ? this.#stretch : undefined;
  }

  /** The revision at which the stretch began: what changed before it was not told, or is not known any more. */
  get floor(): bigint {
    return this.#floor;
  }

  live(): boolean {
    return this.#heard !== undefined && elapsed(this.#clock, this.#heard) <= LONGEST_SILENCE_MS;
  }

  /** The watch said something. After too long a silence, that begins a new stretch. */
  heard(revision: bigint): void {
    if (!this.live()) this.broken(revision);
    this.#heard = moment(this.#clock);
  }

  /** Something was missed, however short the silence was: a new stretch begins. */
  broken(revision: bigint): void {
    this.#stretch += 1;
    this.#floor = revision;
  }

  /** What changed up to a revision is not known any more, for want of room. */
  raiseFloor(revision: bigint): void {
    if (revision > this.#floor) this.#floor = revision;
  }

  /** What happens from now on until the watch says something is not told. */
  lost(): void {
    this.#heard = undefined;
  }
}
