import * as checks from "../checks.js";
import { sleep } from "../clock.js";
import { subject } from "../near/cache.js";
import type { Answered } from "../near/entry.js";
import type { Principal } from "../principal.js";
import type { Validation } from "../validation.js";
import { type Checked, check } from "./check.js";
import { type Credential, credentialOf } from "./credential.js";
import { type Guards, TICK_MS } from "./guards.js";
import { deniedEnd, type StreamEnd, undecidedEnd } from "./stream-end.js";

/** Options of `guard`. */
export interface GuardOptions {
  /** Scopes that the key must keep, besides those required when the principal was validated. */
  readonly scopes?: readonly string[];
  /** How long a stream goes on without a decision while the watch stream is down; default: 10,000 ms. */
  readonly toleranceMs?: number;
}

/** After a change is known, a decision must be made within this time. */
const DECISION_MS = 1000;
const RETRY_MS = 100;
/** Time between validations while the watch stream is not live, if the answer does not state one. */
const DEFAULT_PERIOD_MS = 5000;
const MIN_PERIOD_MS = 1000;
const DAY_MS = 86_400_000;

/** A decision, or the error of the attempt to make one. */
type Outcome = { readonly checked: Checked } | { readonly checked?: never; readonly error: unknown };

/** Watches over one stream, and calls back once when its principal may no longer use it. */
export class StreamGuard {
  readonly #guards: Guards;
  readonly #principal: Principal;
  readonly #credential: Credential;
  readonly #scopes: readonly string[];
  readonly #toleranceMs: number;
  readonly #onEnd: (end: StreamEnd) => void;
  readonly #released = new AbortController();
  #turn = 0;
  #dueAt = 0;
  /** When a decision was first wanted that has not been made yet. */
  #undecidedSince: number | undefined;
  #lastError: unknown;
  #firstToExpire: Validation | undefined;
  #cancelExpiry: (() => void) | undefined;

  /** Throws a `TypeError` for a principal without a credential. */
  constructor(
    guards: Guards,
    principal: Principal,
    onEnd: (end: StreamEnd) => void,
    options: GuardOptions = {},
  ) {
    const { scopes = [], toleranceMs = 10_000 } = checks.options("options", options, [
      "scopes",
      "toleranceMs",
    ]);
    this.#guards = guards;
    this.#principal = principal;
    this.#credential = credentialOf(principal);
    this.#scopes = [...new Set([...this.#credential.scopes, ...checks.texts("scopes", scopes)])];
    this.#toleranceMs = checks.milliseconds("toleranceMs", toleranceMs);
    this.#onEnd = onEnd;
    guards.register(this, [subject.key(principal.keyId), subject.tenant(principal.tenantId)]);
    // The principal may have changed since it was validated.
    void this.#check(false);
  }

  /** Stops watching, because the stream has ended. May be called twice. */
  release(): void {
    this.#released.abort();
    this.#cancelExpiry?.();
    this.#guards.remove(this);
  }

  /** Ends the stream. */
  end(end: StreamEnd): void {
    if (this.#released.signal.aborted) return;
    this.release();
    this.#onEnd(end);
  }

  /** The key, the tenant or the session has changed. */
  changed(): void {
    void this.#check(true);
  }

  /** Called every second while the watch stream does not cover the last answer. */
  tick(): void {
    const now = this.#guards.clock.monotonic();
    if (this.#toleranceLeft(now) <= 0) this.end(undecidedEnd(this.#lastError));
    else if (now >= this.#dueAt) void this.#check(false);
  }

  async #check(isUrgent: boolean): Promise<void> {
    this.#turn += 1;
    const turn = this.#turn;
    this.#dueAt = Number.POSITIVE_INFINITY;
    // The wait for other validations counts too.
    this.#undecidedSince ??= this.#guards.clock.monotonic();
    this.#guards.setCovered(this, false);
    const outcome = await this.#guards.limited(() =>
      isUrgent ? this.#decide(turn) : this.#validate(this.#toleranceLeft(this.#guards.clock.monotonic())),
    );
    if (this.#released.signal.aborted) return;
    const { checked } = outcome;
    if (checked?.denial !== undefined) {
      this.end(checked.denial);
      return;
    }
    // A later check decides.
    if (turn !== this.#turn) return;
    if (checked !== undefined) this.#goOn(checked.answers);
    else this.#undecided(outcome.error, isUrgent);
  }

  /** Validates until there is a decision that reflects all known changes, for at most `DECISION_MS`. */
  async #decide(turn: number): Promise<Outcome> {
    const { clock } = this.#guards;
    const end = clock.monotonic() + DECISION_MS;
    for (;;) {
      const outcome = await this.#validate(end - clock.monotonic());
      const { denial, answers } = outcome.checked ?? {};
      const isDecided = denial !== undefined || answers?.every((answered) => answered.isCurrent()) === true;
      const isOver = turn !== this.#turn || this.#released.signal.aborted;
      if (isDecided || isOver || end - clock.monotonic() <= RETRY_MS) return outcome;
      await sleep(clock, RETRY_MS, this.#released.signal);
    }
  }

  async #validate(leftMs: number): Promise<Outcome> {
    const { clientAddress } = this.#credential;
    const timeoutMs = Math.max(1, Math.min(leftMs, this.#guards.timeoutMs));
    const options = { scopes: this.#scopes, clientAddress, timeoutMs };
    try {
      for (;;) {
        const checked = await check(this.#guards.validators, this.#principal, this.#credential, options);
        const subjects = checked.answers.flatMap((answered) => answered.subjects);
        // A change of a subject before it was registered may have been missed.
        const isOver = checked.denial !== undefined || this.#released.signal.aborted;
        if (isOver || !this.#guards.register(this, subjects)) return { checked };
      }
    } catch (error) {
      return { error };
    }
  }

  #goOn(answers: readonly Answered<Validation>[]): void {
    const { clock } = this.#guards;
    this.#undecidedSince = undefined;
    const [first] = answers
      .map(({ answer }) => answer)
      .filter(({ expiresAt }) => expiresAt !== undefined)
      .sort((a, b) => Number(a.expiresAt) - Number(b.expiresAt));
    this.#firstToExpire = first;
    if (this.#endIfExpired()) return;
    this.#armExpiry();
    const isCurrent = answers.every((answered) => answered.isCurrent());
    const freshMs = Math.min(...answers.map(({ answer }) => answer.cacheableForMs || DEFAULT_PERIOD_MS));
    this.#dueAt = clock.monotonic() + (isCurrent ? Math.max(MIN_PERIOD_MS, freshMs) : MIN_PERIOD_MS);
    this.#guards.setCovered(this, isCurrent && answers.every((answered) => answered.isCovered()));
  }

  #undecided(error: unknown, isUrgent: boolean): void {
    if (this.#endIfExpired()) return;
    const now = this.#guards.clock.monotonic();
    if (isUrgent || this.#toleranceLeft(now) <= 0) {
      this.end(undecidedEnd(error));
      return;
    }
    this.#lastError = error;
    this.#dueAt = now + TICK_MS;
  }

  #toleranceLeft(now: number): number {
    return this.#toleranceMs - (now - (this.#undecidedSince ?? now));
  }

  #endIfExpired(): boolean {
    const answer = this.#firstToExpire;
    if (answer === undefined || this.#expiresInMs > 0) return false;
    this.end(deniedEnd(answer, "EXPIRED"));
    return true;
  }

  get #expiresInMs(): number {
    const at = this.#firstToExpire?.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY;
    return at - this.#guards.clock.now();
  }

  /** Validates once more at the expiry, because it may have been extended. */
  #armExpiry(): void {
    this.#cancelExpiry?.();
    this.#cancelExpiry = undefined;
    if (this.#firstToExpire === undefined) return;
    const inMs = Math.min(Math.max(0, this.#expiresInMs), DAY_MS);
    this.#cancelExpiry = this.#guards.clock.after(inMs, () => {
      if (this.#expiresInMs <= 0) void this.#check(false);
      else this.#armExpiry();
    });
  }
}
