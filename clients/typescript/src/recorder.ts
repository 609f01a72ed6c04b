import { randomUUID } from "node:crypto";
import * as checks from "./checks.js";
import { type Clock, sleep } from "./clock.js";
import { recorderClosed, TenantAuthError } from "./error.js";
import { fullJitter } from "./rpc/retry.js";
import { unwatchExit, watchExit } from "./unsent-at-exit.js";
import type { Usage, UsageEvent } from "./usage.js";
import { usageEvent } from "./usage-event.js";
import * as warning from "./warning.js";

/** The service takes no more at once. */
const MOST_IN_A_BATCH = 500;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 30_000;
const OPTIONS = ["capacity", "batchSize", "maxDelayMs", "timeoutMs", "onRejected"] as const;

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

/** The queue is full: this event was not taken. */
export class UsageQueueFullError extends Error {
  constructor() {
    super("the queue of usage events is full");
    this.name = "UsageQueueFullError";
  }
}

/** Somebody who waits until a batch and all before it are sent. */
interface Waiter {
  last: UnsentUsage;
  readonly resolve: () => void;
  /** Called when an attempt to send fails; absent for whoever waits on. */
  readonly reject?: (error: unknown) => void;
}

/** What became of an attempt to send a batch. */
type Outcome = "done" | "split" | { readonly error: unknown };

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

  constructor(usage: Usage, clock: Clock, given: RecorderOptions) {
    const options = checks.options("options", given, OPTIONS);
    this.#usage = usage;
    this.#clock = clock;
    const { capacity = 10_000, batchSize = MOST_IN_A_BATCH, maxDelayMs = 1000, timeoutMs = 5000 } = options;
    this.#options = {
      capacity: checks.count("capacity", capacity),
      batchSize: checks.count("batchSize", batchSize, MOST_IN_A_BATCH),
      maxDelayMs: checks.milliseconds("maxDelayMs", maxDelayMs),
      timeoutMs: checks.milliseconds("timeoutMs", timeoutMs),
      onRejected: checks.callback("onRejected", options.onRejected) ?? warn,
    };
  }

  /** How many events wait, those being sent included. */
  get queued(): number {
    return this.#queued;
  }

  /**
   * Takes an event; `at` is now unless set. Throws `UsageQueueFullError` when the queue is full, `TypeError` for what the
   * contract can never take, and the error of kind `closed` when the recorder or its client is closed.
   */
  record(tenantId: string, metric: string, quantity: number | bigint, at?: Date): void {
    if (this.#closing !== undefined) throw recorderClosed();
    this.#usage.assertOpen();
    const event = usageEvent(tenantId, metric, quantity, at ?? new Date(this.#clock.now()));
    if (this.#queued >= this.#options.capacity) throw new UsageQueueFullError();
    if (this.#queued === 0) watchExit(this);
    this.#queued += 1;
    this.#open.push(event);
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
    this.#closing ??= this.#close(checks.milliseconds("timeoutMs", timeoutMs));
    return this.#closing;
  }

  /** `close()`, with a warning about what was not sent. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    if (this.#queued > 0) warning.warn(`${this.#queued} usage events were not sent`);
  }

  async #close(timeoutMs: number): Promise<UnsentUsage[]> {
    const cancel = this.#clock.after(timeoutMs, () => this.#stop.abort());
    await Promise.race([this.#sent(false), this.#stopped()]);
    cancel();
    this.#stop.abort();
    await this.#sending;
    // Whoever closes is told of the rest.
    unwatchExit(this);
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
      const outcome = await this.#attempt(batch);
      if (outcome === "done") {
        failures = 0;
        this.#batches.shift();
        this.#queued -= batch.events.length;
        if (this.#queued === 0) unwatchExit(this);
        this.#settle((waiter) => waiter.last === batch && waiter.resolve);
      } else if (outcome === "split") {
        this.#split(batch);
      } else {
        if (this.#stop.signal.aborted) return;
        this.#settle((waiter) => waiter.reject && (() => waiter.reject?.(outcome.error)));
        this.#hurry = new AbortController();
        const woken = AbortSignal.any([this.#hurry.signal, this.#stop.signal]);
        await sleep(this.#clock, fullJitter(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, failures), woken);
        failures += 1;
        if (this.#stop.signal.aborted) return;
      }
    }
  }

  async #attempt({ requestId, events }: UnsentUsage): Promise<Outcome> {
    const { timeoutMs } = this.#options;
    try {
      const { signal } = this.#stop;
      const { rejected } = await this.#usage.record(events, { requestId, timeoutMs, signal });
      for (const { index, error } of rejected) {
        const event = events[index];
        if (event !== undefined) this.#reject(event, error);
      }
      return "done";
    } catch (error) {
      if (!(error instanceof TenantAuthError)) return { error };
      // The client that sends is closed: there will be no better time.
      if (error.kind === "closed") this.#stop.abort();
      if (error.kind !== "invalid") return { error };
      if (events.length > 1) return "split";
      // It will be as wrong the next time.
      for (const event of events) this.#reject(event, error);
      return "done";
    }
  }

  /** What the caller's own code throws is no reason to send a batch again, or to send no others. */
  #reject(event: UsageEvent, error: TenantAuthError): void {
    warning.guarded("onRejected", () => this.#options.onRejected(event, error));
  }

  /** The service takes none of it: halves are sent under ids of their own, until only what is wrong is left out. */
  #split(batch: UnsentUsage): void {
    const middle = Math.ceil(batch.events.length / 2);
    const half = (events: readonly UsageEvent[]): UnsentUsage => ({ requestId: randomUUID(), events });
    const first = half(batch.events.slice(0, middle));
    const last = half(batch.events.slice(middle));
    this.#batches.splice(0, 1, first, last);
    for (const waiter of this.#waiters) if (waiter.last === batch) waiter.last = last;
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
  warning.warn(`usage can never be counted: ${what}: ${error.message}`);
}
