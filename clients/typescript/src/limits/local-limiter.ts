import * as checks from "../checks.js";
import type { Clock } from "../clock.js";
import { limiterClosed } from "../error.js";
import { printable } from "../printable.js";
import { type CallOptions, limit } from "../rpc/rpc-client.js";
import { withTimeout } from "../rpc/with-timeout.js";
import { METRIC } from "../usage-event.js";
import type { Validation } from "../validation.js";
import { text } from "../wire.js";
import { Allowance, type AllowanceOptions } from "./allowance.js";
import {
  type CheckedCredential,
  checkedCredential,
  type LimitCredential,
  principalFor,
} from "./credential.js";
import type { Limits } from "./limits.js";
import { deniedOutcome, type LimitOutcome } from "./outcome.js";

/** Options of a `LocalLimiter`. */
export interface LocalLimiterOptions {
  /** The metric that it takes amounts of, such as `api.calls`. */
  readonly metric: string;
}

/** Validates a credential through the near cache. */
export type LocalValidation = (credential: CheckedCredential, options: CallOptions) => Promise<Validation>;

/** The contract's maximum of an amount. */
const MAX_AMOUNT = 1_000_000_000;

/**
 * Takes amounts of one metric, most of them without a call: it reserves a chunk per key, and admits from it while the key
 * is valid in the near cache. It never admits more than it has reserved. What it does not use is given back when a chunk
 * ends, after at most 30 seconds, and by `close`. If the process ends without `close`, it counts as used.
 */
export class LocalLimiter {
  readonly #validate: LocalValidation;
  readonly #timeoutMs: number;
  readonly #options: AllowanceOptions;
  readonly #stop = new AbortController();
  /** By the public id of the key. */
  readonly #allowances = new Map<string, Allowance>();
  #closing: Promise<void> | undefined;

  constructor(
    limits: Pick<Limits, "reserve">,
    validate: LocalValidation,
    { clock, timeoutMs }: { readonly clock: Clock; readonly timeoutMs: number },
    given: LocalLimiterOptions,
  ) {
    const { metric } = checks.options("options", given, ["metric"]);
    this.#validate = validate;
    this.#timeoutMs = timeoutMs;
    if (!METRIC.test(text("metric", metric)))
      throw new TypeError(
        "metric must be a lower-case letter, then up to 63 characters of a-z 0-9 _ and the full stop",
      );
    this.#options = { limits, clock, metric, stop: this.#stop.signal };
  }

  /**
   * Takes an amount for a key or a session. The `limits` of the outcome are empty unless the service was asked. Rejects with
   * a `TenantAuthError` if no decision was made.
   */
  async admit(credential: LimitCredential, amount = 1, options: CallOptions = {}): Promise<LimitOutcome> {
    checks.count("amount", amount, MAX_AMOUNT);
    const { timeoutMs, signal } = checks.options("options", options, ["timeoutMs", "signal"]);
    const query = checkedCredential("credential", credential);
    if (query.malformed !== undefined) return deniedOutcome(query.malformed);
    const { clock } = this.#options;
    const end = clock.monotonic() + limit(timeoutMs, this.#timeoutMs);
    for (let isFirst = true; ; isFirst = false) {
      this.#assertOpen();
      const validation = await this.#validate(query, { timeoutMs: leftUntil(end, clock), signal });
      if (!validation.valid) return deniedOutcome(validation);
      this.#assertOpen();
      const allowance = this.#allowanceOf(validation.keyId);
      if (isFirst) allowance.want(amount);
      if (allowance.take(amount, credential)) {
        const principal = principalFor(query, validation);
        return printable({ verdict: "VALID", allowed: true, validation, principal, limits: [] });
      }
      const filling = allowance.fill(amount, credential);
      const refusal = await withTimeout(filling, clock, leftUntil(end, clock), signal);
      if (refusal === undefined || !allowance.isRefused(amount, credential, refusal)) continue;
      // The refusal of a limit may be that of another credential of this key.
      const { outcome } = refusal;
      return outcome.validation.valid ? printable({ ...outcome, validation }) : outcome;
    }
  }

  /** Admits nothing more, and settles what was used, for at most `timeoutMs` (default: 5,000). May be called twice. */
  close(timeoutMs = 5000): Promise<void> {
    this.#closing ??= this.#close(checks.milliseconds("timeoutMs", timeoutMs));
    return this.#closing;
  }

  /** Closes the limiter. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(timeoutMs: number): Promise<void> {
    const cancel = this.#options.clock.after(timeoutMs, () => this.#stop.abort());
    await Promise.all([...this.#allowances.values()].map((allowance) => allowance.close()));
    cancel();
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw limiterClosed();
  }

  #allowanceOf(keyId: string): Allowance {
    const existing = this.#allowances.get(keyId);
    if (existing !== undefined) return existing;
    const allowance = new Allowance(this.#options, () => this.#allowances.delete(keyId));
    this.#allowances.set(keyId, allowance);
    return allowance;
  }
}

function leftUntil(end: number, clock: Clock): number {
  return Math.max(1, end - clock.monotonic());
}
