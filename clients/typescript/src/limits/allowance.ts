import { type Clock, elapsed, type Moment, moment } from "../clock.js";
import { Chunk } from "./chunk.js";
import type { LimitCredential } from "./credential.js";
import type { Limits } from "./limits.js";
import type { LimitOutcome } from "./outcome.js";

const EXPIRES_IN_MS = 30_000;
/** A chunk is what is wanted in about this time. */
const CHUNK_MS = 2000;
const MAX_CHUNK = 1000;
/** The next chunk is fetched when less than this part of one is left. */
const LOW = 0.5;

const AHEAD_RETRY_MS = 200;
/** A refusal is remembered for at most this time. */
const MAX_MEMORY_MS = 1000;

/** What all allowances of a limiter share. */
export interface AllowanceOptions {
  readonly limits: Pick<Limits, "reserve">;
  readonly clock: Clock;
  readonly metric: string;
  /** Ends the attempts to settle. */
  readonly stop: AbortSignal;
}

/** A refused reservation. */
export interface Refusal {
  readonly outcome: LimitOutcome;
  /** The amount that was refused. */
  readonly amount: number;
  /** The credential that was presented. */
  readonly credential: LimitCredential;
}

/** What one key may still spend locally. */
export class Allowance {
  readonly #options: AllowanceOptions;
  readonly #onIdle: () => void;
  readonly #chunks = new Set<Chunk>();
  readonly #settling = new Set<Promise<void>>();
  /** What was wanted lately: each amount fades away with the time constant `CHUNK_MS`. */
  #wanted = 0;
  #wantedAt: Moment;
  #size = 1;
  #filling: Promise<Refusal | undefined> | undefined;
  /** The last refusal, until a retry can succeed. */
  #remembered: Refusal | undefined;
  #cancelMemory: (() => void) | undefined;
  /** When the next chunk may be fetched ahead. */
  #aheadFrom = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  /** `onIdle` is called when nothing is held, fetched or remembered. */
  constructor(options: AllowanceOptions, onIdle: () => void) {
    this.#options = options;
    this.#onIdle = onIdle;
    this.#wantedAt = moment(options.clock);
  }

  /** Counts what is wanted, whether or not it is admitted, so that chunks have the right size. */
  want(amount: number): void {
    this.#wanted = this.#recentlyWanted + amount;
    this.#wantedAt = moment(this.#options.clock);
  }

  /** Takes a whole amount or nothing. Returns whether it was taken, and fetches the next chunk ahead. */
  take(amount: number, credential: LimitCredential): boolean {
    // Read once: a chunk that ends meanwhile has its margin.
    const usable = [...this.#chunks].map((chunk) => ({ chunk, left: chunk.left }));
    const left = usable.reduce((sum, one) => sum + one.left, 0);
    if (left < amount) return false;
    let missing = amount;
    for (const { chunk, left } of usable) {
      const taken = Math.min(missing, left);
      if (taken > 0) chunk.take(taken);
      missing -= taken;
    }
    const isLow = left - amount < this.#size * LOW;
    if (isLow && this.#recentlyWanted > amount) this.#fillAhead(credential);
    return true;
  }

  /**
   * Fetches a chunk, at least what is missing of an amount; joins a fetch in flight. Returns the refusal, if it is or was
   * just refused. Rejects if no decision was made.
   */
  fill(amount: number, credential: LimitCredential): Promise<Refusal | undefined> {
    const known = this.#remembered;
    if (known !== undefined && this.isRefused(amount, credential, known)) return Promise.resolve(known);
    this.#filling ??= this.#fill(Math.max(0, amount - this.#left), credential).finally(() => {
      this.#filling = undefined;
      this.#endIfIdle();
    });
    return this.#filling;
  }

  /** Whether a refusal decides about an amount for a credential, which may have joined the fetch of another one. */
  isRefused(amount: number, credential: LimitCredential, refusal: Refusal): boolean {
    if (!refusal.outcome.validation.valid) return refusal.credential === credential;
    return amount - this.#left >= refusal.amount;
  }

  /** Settles everything. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#forget();
    await this.#filling?.catch(() => undefined);
    for (const chunk of [...this.#chunks]) void chunk.retire();
    await Promise.all(this.#settling);
  }

  /** Nobody waits for this fetch, so after a failure it is not repeated with every request. */
  #fillAhead(credential: LimitCredential): void {
    const { clock } = this.#options;
    if (this.#filling !== undefined || clock.monotonic() < this.#aheadFrom) return;
    const failed = (): void => {
      this.#aheadFrom = clock.monotonic() + AHEAD_RETRY_MS;
    };
    this.fill(0, credential).then((refusal) => refusal && failed(), failed);
  }

  get #left(): number {
    let left = 0;
    for (const chunk of this.#chunks) left += chunk.left;
    return left;
  }

  get #recentlyWanted(): number {
    return this.#wanted * Math.exp(-elapsed(this.#options.clock, this.#wantedAt) / CHUNK_MS);
  }

  async #fill(missing: number, credential: LimitCredential): Promise<Refusal | undefined> {
    for (let amount = Math.max(missing, this.#size); ; amount = Math.max(missing, this.#size)) {
      const refused = await this.#reserve(amount, credential);
      if (refused === undefined) {
        this.#forget();
        // Doubles at most, so that a burst of a moment does not take much from others.
        this.#size = Math.min(MAX_CHUNK, this.#size * 2, Math.max(1, Math.ceil(this.#recentlyWanted)));
        return undefined;
      }
      const refusal = { outcome: refused, amount, credential };
      if (!refused.validation.valid) return refusal;
      this.#size = Math.max(1, Math.floor(Math.min(amount, this.#size) / 2));
      // Nobody waits for a chunk that is fetched ahead.
      if (missing === 0 || amount <= missing) {
        this.#remember(refusal);
        return refusal;
      }
    }
  }

  #remember(refusal: Refusal): void {
    this.#forget();
    if (this.#isClosed) return;
    this.#remembered = refusal;
    const ms = Math.min(refusal.outcome.retryAfterMs ?? MAX_MEMORY_MS, MAX_MEMORY_MS);
    this.#cancelMemory = this.#options.clock.after(ms, () => {
      this.#forget();
      this.#endIfIdle();
    });
  }

  #forget(): void {
    this.#cancelMemory?.();
    this.#cancelMemory = undefined;
    this.#remembered = undefined;
  }

  /** Reserves a chunk. Returns the outcome if it was refused. */
  async #reserve(amount: number, credential: LimitCredential): Promise<LimitOutcome | undefined> {
    const { limits, clock, metric, stop } = this.#options;
    const start = moment(clock);
    const options = { expiresInMs: EXPIRES_IN_MS, onExpiry: "CHARGE" } as const;
    const outcome = await limits.reserve(credential, [{ metric, amount }], options);
    const { reservation } = outcome;
    if (reservation === undefined) return outcome;
    const onRetired = (retired: Chunk): void => this.#onRetired(retired);
    const chunk = new Chunk({ clock, metric, reservation, amount, start, stop, onRetired });
    this.#chunks.add(chunk);
    if (this.#isClosed) void chunk.retire();
    return undefined;
  }

  #onRetired(chunk: Chunk): void {
    this.#chunks.delete(chunk);
    const settling = chunk.retire().finally(() => {
      this.#settling.delete(settling);
      this.#endIfIdle();
    });
    this.#settling.add(settling);
  }

  #endIfIdle(): void {
    const isHeld = this.#chunks.size > 0 || this.#settling.size > 0;
    if (!isHeld && this.#filling === undefined && this.#remembered === undefined) this.#onIdle();
  }
}
