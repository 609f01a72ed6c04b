import { randomUUID } from "node:crypto";
import { type Clock, sleep } from "./clock.js";
import { TenantAuthError } from "./error.js";
import { fullJitter } from "./rpc/retry.js";
import type { Usage, UsageEvent } from "./usage.js";

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

/** Takes usage events one by one and sends them in batches, each counted once however often it is resent. */
export class UsageRecorder {
  readonly #usage: Usage;
  readonly #clock: Clock;
  readonly #options: Required<RecorderOptions>;
  /** Batches with their ids: the first one is being sent or waits to be resent. */
  readonly #batches: UnsentUsage[] = [];
  #open: UsageEvent[] = [];
  #queued = 0;
  #closed = false;
  #cancelDelay: (() => void) | undefined;
  #sending: Promise<void> | undefined;
  #hurry = new AbortController();
  #failure: TenantAuthError | undefined;

  constructor(usage: Usage, clock: Clock, options: RecorderOptions) {
    this.#usage = usage;
    this.#clock = clock;
    this.#options = {
      capacity: options.capacity ?? 10_000,
      batchSize: Math.min(500, options.batchSize ?? 500),
      maxDelayMs: options.maxDelayMs ?? 1000,
      timeoutMs: options.timeoutMs ?? 5000,
      onRejected: options.onRejected ?? warn,
    };
  }
}

function warn(event: UsageEvent, error: TenantAuthError): void {
  const what = `${event.quantity} ${event.metric} of ${event.tenantId}`;
  process.emitWarning(`usage can never be counted: ${what}: ${error.message}`, "TenantAuthUsageWarning");
}
