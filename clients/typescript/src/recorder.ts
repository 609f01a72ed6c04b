import { randomUUID } from "node:crypto";
import * as checks from "./checks.js";
import { type Clock, sleep } from "./clock.js";
import { recorderClosed, TenantAuthError } from "./error.js";
import { fullJitter } from "./rpc/retry.js";
import { unwatchExit, watchExit } from "./unsent-at-exit.js";
import type { Usage, UsageEvent } from "./usage.js";
import { usageEvent } from "./usage-event.js";
import * as warning from "./warning.js";

/** The service's maximum number of events per call. */
const MAX_BATCH_SIZE = 500;
const INITIAL_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 30_000;
const OPTIONS = ["capacity", "batchSize", "maxDelayMs", "timeoutMs", "onRejected"] as const;

/** Options of a `UsageRecorder`. */
export interface RecorderOptions {
  /** Maximum number of queued events, including those being sent; default: 10,000. */
  readonly capacity?: number;
  /** Maximum number of events per batch; default: 500, the service's maximum. */
  readonly batchSize?: number;
  /** Maximum time that an event waits for others, in milliseconds; default: 1,000. */
  readonly maxDelayMs?: number;
  /** Timeout of one attempt to send a batch, in milliseconds; default: 5,000. */
  readonly timeoutMs?: number;
  /** Called for each event that is rejected for good. Default: a process warning. */
  readonly onRejected?: (event: UsageEvent, error: TenantAuthError) => void;
}

/** Events that were not sent, or got no response. Send them again with the same id, so that they are counted once. */
export interface UnsentUsage {
  readonly requestId: string;
  readonly events: readonly UsageEvent[];
}

/** The queue is full. The event was not recorded. */
export class UsageQueueFullError extends Error {
  constructor() {
    super("usage queue full");
    this.name = "UsageQueueFullError";
  }
}

/** A caller that waits until a batch and all earlier ones are sent. */
interface Waiter {
  last: UnsentUsage;
  readonly resolve: () => void;
  /** Called if an attempt to send fails; absent for callers that keep waiting. */
  readonly reject?: (error: unknown) => void;
}

/** The result of an attempt to send a batch. */
type Outcome = "done" | "split" | { readonly error: unknown };

/**
 * Collects usage events and sends them in batches. Each event is counted once, even if its batch is sent several times.
 */
export class UsageRecorder {
  readonly #usage: Usage;
  readonly #clock: Clock;
  readonly #options: Required<RecorderOptions>;
  /** The batches in the order of sending: one at a time, each until the service responds. */
  readonly #batches: UnsentUsage[] = [];
  readonly #stop = new AbortController();
  #current: UsageEvent[] = [];
  #queued = 0;
  #waiters: Waiter[] = [];
  #cancelDelay: (() => void) | undefined;
  #retryNow = new AbortController();
  #sending: Promise<void> | undefined;
  #closing: Promise<UnsentUsage[]> | undefined;

  constructor(usage: Usage, clock: Clock, given: RecorderOptions) {
    const options = checks.options("options", given, OPTIONS);
    this.#usage = usage;
    this.#clock = clock;
    const { capacity = 10_000, batchSize = MAX_BATCH_SIZE, maxDelayMs = 1000, timeoutMs = 5000 } = options;
    this.#options = {
      capacity: checks.count("capacity", capacity),
      batchSize: checks.count("batchSize", batchSize, MAX_BATCH_SIZE),
      maxDelayMs: checks.milliseconds("maxDelayMs", maxDelayMs),
      timeoutMs: checks.milliseconds("timeoutMs", timeoutMs),
      onRejected: checks.callback("onRejected", options.onRejected) ?? warn,
    };
  }

  /** Number of queued events, including those being sent. */
  get queued(): number {
    return this.#queued;
  }

  /**
   * Queues an event; `at` defaults to now. Throws `UsageQueueFullError` if the queue is full, `TypeError` for an event
   * that violates the contract, and an error of the kind `closed` if the recorder or its client is closed.
   */
  record(tenantId: string, metric: string, quantity: number | bigint, at?: Date): void {
    if (this.#closing !== undefined) throw recorderClosed();
    this.#usage.assertOpen();
    const event = usageEvent(tenantId, metric, quantity, at ?? new Date(this.#clock.now()));
    if (this.#queued >= this.#options.capacity) throw new UsageQueueFullError();
    if (this.#queued === 0) watchExit(this);
    this.#queued += 1;
    this.#current.push(event);
    if (this.#current.length >= this.#options.batchSize) this.#closeBatch();
    else this.#cancelDelay ??= this.#clock.after(this.#options.maxDelayMs, () => this.#closeBatch());
  }

  /** Sends all queued events now. Rejects if an attempt fails; the events stay queued and are sent later. */
  flush(): Promise<void> {
    return this.#flushed(true);
  }

  /**
   * Rejects further events, continues to send for at most `timeoutMs` (default: 5,000), and returns the events that
   * were not sent or got no response.
   */
  close(timeoutMs = 5000): Promise<UnsentUsage[]> {
    this.#closing ??= this.#close(checks.milliseconds("timeoutMs", timeoutMs));
    return this.#closing;
  }

  /** Closes the recorder, with a process warning about unsent events. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    if (this.#queued > 0) warning.warn(`usage events not sent: ${this.#queued}`);
  }

  async #close(timeoutMs: number): Promise<UnsentUsage[]> {
    const cancel = this.#clock.after(timeoutMs, () => this.#stop.abort());
    await Promise.race([this.#flushed(false), this.#stopped()]);
    cancel();
    this.#stop.abort();
    await this.#sending;
    // The caller of `close` gets the remaining events, so the exit handler must not report them.
    unwatchExit(this);
    return [...this.#batches];
  }

  #stopped(): Promise<void> {
    return new Promise((resolve) =>
      this.#stop.signal.addEventListener("abort", () => resolve(), { once: true }),
    );
  }

  #flushed(orReject: boolean): Promise<void> {
    this.#closeBatch();
    const last = this.#batches.at(-1);
    if (last === undefined) return Promise.resolve();
    this.#retryNow.abort();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ last, resolve, ...(orReject ? { reject } : {}) });
    });
  }

  /** Moves the open events to a batch. From then on its id and its events stay the same. */
  #closeBatch(): void {
    this.#cancelDelay?.();
    this.#cancelDelay = undefined;
    if (this.#current.length === 0) return;
    this.#batches.push({ requestId: randomUUID(), events: this.#current });
    this.#current = [];
    this.#sending ??= this.#send();
  }

  async #send(): Promise<void> {
    for (let failures = 0; ; ) {
      const [batch] = this.#batches;
      if (batch === undefined) {
        // Reset synchronously: otherwise a batch added in the meantime would wait for a loop that has ended.
        this.#sending = undefined;
        return;
      }
      const outcome = await this.#attempt(batch);
      if (outcome === "done") {
        failures = 0;
        this.#batches.shift();
        this.#queued -= batch.events.length;
        if (this.#queued === 0) unwatchExit(this);
        this.#notify((waiter) => waiter.last === batch && waiter.resolve);
      } else if (outcome === "split") {
        this.#split(batch);
      } else {
        if (this.#stop.signal.aborted) return;
        this.#notify((waiter) => waiter.reject && (() => waiter.reject?.(outcome.error)));
        this.#retryNow = new AbortController();
        const woken = AbortSignal.any([this.#retryNow.signal, this.#stop.signal]);
        await sleep(this.#clock, fullJitter(INITIAL_BACKOFF_MS, MAX_BACKOFF_MS, failures), woken);
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
      // The client is closed, so no later attempt can succeed.
      if (error.kind === "closed") this.#stop.abort();
      if (error.kind !== "invalid") return { error };
      if (events.length > 1) return "split";
      // A single invalid event stays invalid, so it is rejected.
      for (const event of events) this.#reject(event, error);
      return "done";
    }
  }

  /** An error of the user's callback must neither repeat the batch nor stop the sending of others. */
  #reject(event: UsageEvent, error: TenantAuthError): void {
    warning.guarded("onRejected", () => this.#options.onRejected(event, error));
  }

  /** The service rejects the whole batch: the halves are sent with new ids, until only invalid events are left over. */
  #split(batch: UnsentUsage): void {
    const middle = Math.ceil(batch.events.length / 2);
    const half = (events: readonly UsageEvent[]): UnsentUsage => ({ requestId: randomUUID(), events });
    const first = half(batch.events.slice(0, middle));
    const last = half(batch.events.slice(middle));
    this.#batches.splice(0, 1, first, last);
    for (const waiter of this.#waiters) if (waiter.last === batch) waiter.last = last;
  }

  /** Calls and removes the waiters for which `action` returns a function. */
  #notify(action: (waiter: Waiter) => (() => void) | false | undefined): void {
    const actions = this.#waiters.map((waiter) => ({ waiter, run: action(waiter) }));
    this.#waiters = actions.filter(({ run }) => !run).map(({ waiter }) => waiter);
    for (const { run } of actions) if (run) run();
  }
}

function warn(event: UsageEvent, error: TenantAuthError): void {
  const what = `${event.quantity} ${event.metric} of ${event.tenantId}`;
  warning.warn(`usage event rejected: ${what}: ${error.message}`);
}
