import { randomUUID } from "node:crypto";
import { type Clock, sleep } from "./clock.js";
import { TenantAuthError } from "./error.js";
import { fullJitter } from "./rpc/retry.js";
import type { Usage, UsageEvent } from "./usage.js";
import { int64, text, timestamp } from "./wire.js";

/** The service takes no more at once. */
const MOST_IN_A_BATCH = 500;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 30_000;

/** Settings of a `UsageRecorder`. */
export interface RecorderOptions {
  /** How many events may wait, those being sent included; 10,000 unless set. */
  readonly capacity?: number;
  /** How many events are sent at once; 500, the most that the service takes, unless set. */
  readonly batchSize?: number;
  /** How long an event waits for others at most, in milliseconds; 1,000 unless set. */
  readonly maxDelayMs?: number;
  /** How long one attempt to send may take, in milliseconds; 5,000 unless set. */
  readonly timeoutMs?: number;
  /** Told of events that can never be counted. Unless set, a process warning is emitted. */
  readonly onRejected?: (event: UsageEvent, error: TenantAuthError) => void;
}

/** Events that were not sent, or without an answer: resend them under the same id, and they are counted once. */
export interface UnsentUsage {
  readonly requestId: string;
  readonly events: readonly UsageEvent[];
}

/** The queue is full, or the recorder is closed: this event was not taken. */
export class UsageNotTakenError extends Error {
  readonly reason: "full" | "closed";

  constructor(reason: "full" | "closed") {
    super(reason === "full" ? "the queue of usage events is full" : "the usage recorder is closed");
    this.name = "UsageNotTakenError";
    this.reason = reason;
  }
}

/** Somebody who waits until a batch and all before it are sent. */
interface Waiter {
  readonly last: UnsentUsage;
  readonly resolve: () => void;
  /** Called when an attempt to send fails; absent for whoever waits on. */
  readonly reject?: (error: unknown) => void;
}

/** Takes usage events one by one and sends them in batches, each counted once however often it is resent. */
export class UsageRecorder {
  readonly #usage: Usage;
  readonly #clock: Clock;
  readonly #options: Required<RecorderOptions>;
  /** In the order they are sent: one at a time, each until it is answered. */
  readonly #batches: UnsentUsage[] = [];
  readonly #stop = new AbortController();
  #open: UsageEvent[] = [];
  #queued = 0;
  #waiters: Waiter[] = [];
  #cancelDelay: (() => void) | undefined;
  #hurry = new AbortController();
  #sending: Promise<void> | undefined;
  #closing: Promise<UnsentUsage[]> | undefined;

  constructor(usage: Usage, clock: Clock, options: RecorderOptions) {
    this.#usage = usage;
    this.#clock = clock;
    this.#options = {
      capacity: options.capacity ?? 10_000,
      batchSize: Math.min(MOST_IN_A_BATCH, options.batchSize ?? MOST_IN_A_BATCH),
      maxDelayMs: options.maxDelayMs ?? 1000,
      timeoutMs: options.timeoutMs ?? 5000,
      onRejected: options.onRejected ?? warn,
    };
  }

  /** How many events wait, those being sent included. */
  get queued(): number {
    return this.#queued;
  }

  /**
   * Takes an event; `at` is now unless set. Throws `UsageNotTakenError` when the queue is full or the recorder closed,
   * and `TypeError` for what can never be sent.
   */
  record(tenantId: string, metric: string, quantity: number | bigint, at?: Date): void {
    if (this.#closing !== undefined) throw new UsageNotTakenError("closed");
    if (this.#queued >= this.#options.capacity) throw new UsageNotTakenError("full");
    const occurredAt = at ?? new Date(this.#clock.now());
    // Now, while whoever is to blame can be told: in a batch it would take others with it.
    timestamp("at", occurredAt);
    const event = {
      tenantId: text("tenantId", tenantId),
      metric: text("metric", metric),
      quantity: int64("quantity", quantity),
      occurredAt,
    };
    this.#queued += 1;
    this.#open.push(Object.freeze(event));
    if (this.#open.length >= this.#options.batchSize) this.#cut();
    else this.#cancelDelay ??= this.#clock.after(this.#options.maxDelayMs, () => this.#cut());
  }

  /** Sends everything now. Rejects when an attempt fails; the events are kept and resent later all the same. */
  flush(): Promise<void> {
    return this.#sent(true);
  }

  /**
   * Takes no more events, goes on sending for `timeoutMs` (5,000 unless set) at most, and gives back what was not sent,
   * or what was sent without an answer.
   */
  close(timeoutMs = 5000): Promise<UnsentUsage[]> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<UnsentUsage[]> {
    const cancel = this.#clock.after(timeoutMs, () => this.#stop.abort());
    await Promise.race([this.#sent(false), this.#stopped()]);
    cancel();
    this.#stop.abort();
    await this.#sending;
    return [...this.#batches];
  }

  #stopped(): Promise<void> {
    return new Promise((resolve) =>
      this.#stop.signal.addEventListener("abort", () => resolve(), { once: true }),
    );
  }

  #sent(orReject: boolean): Promise<void> {
    this.#cut();
    const last = this.#batches.at(-1);
    if (last === undefined) return Promise.resolve();
    this.#hurry.abort();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ last, resolve, ...(orReject ? { reject } : {}) });
    });
  }

  /** Makes a batch of the events at hand. From here on its id and its events stay together. */
  #cut(): void {
    this.#cancelDelay?.();
    this.#cancelDelay = undefined;
    if (this.#open.length === 0) return;
    this.#batches.push({ requestId: randomUUID(), events: this.#open });
    this.#open = [];
    this.#sending ??= this.#send();
  }

  async #send(): Promise<void> {
    for (let failures = 0; ; ) {
      const [batch] = this.#batches;
      if (batch === undefined) {
        // In the same breath, or a batch made meanwhile would wait for a loop that has ended.
        this.#sending = undefined;
        return;
      }
      const error = await this.#attempt(batch);
      if (this.#stop.signal.aborted && error !== undefined) return;
      if (error === undefined) {
        failures = 0;
        this.#batches.shift();
        this.#queued -= batch.events.length;
        this.#settle((waiter) => waiter.last === batch && waiter.resolve);
      } else {
        this.#settle((waiter) => waiter.reject && (() => waiter.reject?.(error)));
        this.#hurry = new AbortController();
        const woken = AbortSignal.any([this.#hurry.signal, this.#stop.signal]);
        await sleep(this.#clock, fullJitter(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, failures), woken);
        failures += 1;
        if (this.#stop.signal.aborted) return;
      }
    }
  }

  /** Says why the batch has to be sent again; `undefined` when it is done with. */
  async #attempt({ requestId, events }: UnsentUsage): Promise<unknown> {
    const { timeoutMs, onRejected } = this.#options;
    try {
      const { rejected } = await this.#usage.record(events, {
        requestId,
        timeoutMs,
        signal: this.#stop.signal,
      });
      for (const { index, error } of rejected) {
        const event = events[index];
        if (event !== undefined) onRejected(event, error);
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof TenantAuthError && error.kind === "invalid")) return error;
      // It will be as wrong the next time.
      for (const event of events) onRejected(event, error);
      return undefined;
    }
  }

  /** Calls those waiters for whom there is news, and forgets them. */
  #settle(news: (waiter: Waiter) => (() => void) | false | undefined): void {
    const told = this.#waiters.map((waiter) => ({ waiter, tell: news(waiter) }));
    this.#waiters = told.filter(({ tell }) => !tell).map(({ waiter }) => waiter);
    for (const { tell } of told) if (tell) tell();
  }
}

function warn(event: UsageEvent, error: TenantAuthError): void {
  const what = `${event.quantity} ${event.metric} of ${event.tenantId}`;
  process.emitWarning(`usage can never be counted: ${what}: ${error.message}`, "TenantAuthUsageWarning");
}
