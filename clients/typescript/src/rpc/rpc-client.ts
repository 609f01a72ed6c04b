import { randomUUID } from "node:crypto";
import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { milliseconds } from "../checks.js";
import { type Clock, sleep } from "../clock.js";
import { clientClosed, deadlineExceeded, TenantAuthError } from "../error.js";
import type { Pool } from "../net/pool.js";
import type { Replica } from "../net/replica.js";
import { connectionLost, neverSent, serverStreaming, unary } from "./attempt.js";
import type { CallerTokens } from "./caller-token.js";
import { hedged } from "./hedge.js";
import { MAX_ATTEMPTS, type RetryBudget, retriable, retryDelay } from "./retry.js";
import { withTimeout } from "./with-timeout.js";

/** Limits of one call. */
export interface CallOptions {
  /** Timeout of the call, including retries, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** Aborts the call, which then fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a call. With `once`, it is not repeated after the service may have received it. */
export interface RpcOptions extends CallOptions {
  readonly once?: boolean;
}

/** State that all calls of a client share. */
export interface RpcState {
  readonly pool: Pool;
  readonly tokens: CallerTokens | undefined;
  readonly budget: RetryBudget;
  readonly timeoutMs: number;
  readonly hedgeAfterMs: number | undefined;
  readonly userAgent: string;
  readonly clock: Clock;
}

/** The abort reason of a stream without events. */
export const NO_EVENTS = new Error("no events on the stream");

/** RPCs that are not repeated like reads, and change nothing that is cached. */
const UNCACHED: ReadonlySet<string> = new Set([
  "RecordUsage",
  "WaitForRevision",
  "Consume",
  "BatchConsume",
  "Reserve",
  "Settle",
  "Cancel",
  "SetLimit",
  "DeleteLimit",
  "AddCredits",
]);

/** Makes calls with a deadline, retries, hedging and a request id. */
export class RpcClient {
  readonly #shared: RpcState;
  readonly #closing = new AbortController();
  #inFlight = 0;
  #changed: (request: object) => void = () => undefined;

  constructor(shared: RpcState) {
    this.#shared = shared;
  }

  get clock(): Clock {
    return this.#shared.clock;
  }

  /** Default timeout of a call, in milliseconds. */
  get timeoutMs(): number {
    return this.#shared.timeoutMs;
  }

  /** Sets the listener that is called with the request of each call that may have changed something. */
  onChange(changed: (request: object) => void): void {
    this.#changed = changed;
  }

  /** Throws the error of a closed client. */
  assertOpen(): void {
    if (this.#closing.signal.aborted) throw clientClosed();
  }

  /** Rejects new calls, ends streams, and closes the connections after the calls in flight. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    if (this.#inFlight === 0) this.#shared.pool.close();
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    message: MessageShape<I>,
    options: RpcOptions = {},
  ): Promise<MessageShape<O>> {
    const timeoutMs = limit(options.timeoutMs, this.timeoutMs);
    this.assertOpen();
    this.#inFlight += 1;
    try {
      return await this.#call(method, message, timeoutMs, options);
    } finally {
      // Even without a response, the change may have been made.
      if (!isRead(method) && !UNCACHED.has(method.name)) this.#changed(message);
      this.#inFlight -= 1;
      if (this.#closing.signal.aborted && this.#inFlight === 0) this.#shared.pool.close();
    }
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    message: MessageShape<I>,
    timeoutMs: number,
    { signal, once }: RpcOptions,
  ): Promise<MessageShape<O>> {
    const { clock, budget, tokens, pool } = this.#shared;
    const requestId = randomUUID();
    const end = clock.monotonic() + timeoutMs;
    const left = (): number => end - clock.monotonic();
    let failed: Replica | undefined;
    let resent = false;
    budget.deposit();
    for (let retries = 0; ; retries += 1) {
      let isSent = false;
      try {
        // The token function may be slow, so its time is limited to the remaining time of the call.
        const authorization = tokens && (await withTimeout(tokens.header(), clock, left(), signal));
        if (left() <= 0) throw deadlineExceeded(requestId);
        const first = await pool.ready(failed, left(), signal);
        failed = first;
        isSent = true;
        const also = { requestId, authorization, userAgent: this.#shared.userAgent };
        return await hedged({
          clock,
          first,
          signal,
          afterMs: this.#shared.hedgeAfterMs ?? timeoutMs / 4,
          send: (replica, given) =>
            unary(replica, method, message, { ...also, timeoutMs: left(), signal: given }),
          other: () => (isRead(method) ? this.#hedgeTo(first) : undefined),
          canRetry: (error) => error instanceof TenantAuthError && retriable(error),
        });
      } catch (error) {
        if (!(error instanceof TenantAuthError)) throw error;
        if (error.kind === "unauthenticated") tokens?.markRejected();
        const mayRepeat = !once || !isSent || neverSent(error);
        if (!mayRepeat || !retriable(error) || retries + 1 >= MAX_ATTEMPTS || left() <= 0) throw error;
        // A lost connection does not mean overload: the call moves to another replica without a delay.
        if (connectionLost(error) && budget.enabled && !resent) {
          resent = true;
          continue;
        }
        const delay = retryDelay(error, retries);
        // Waiting past the deadline would hide the error.
        if (delay >= left() || !budget.withdraw()) throw error;
        await sleep(clock, delay, signal);
        signal?.throwIfAborted();
      }
    }
  }

  /** Makes a server-streaming call without retries: the reader resumes after an interruption. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O> & { methodKind: "server_streaming" },
    message: MessageShape<I>,
    signal?: AbortSignal,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const { pool, tokens, userAgent, timeoutMs } = this.#shared;
    this.assertOpen();
    const ended = AbortSignal.any(
      signal === undefined ? [this.#closing.signal] : [this.#closing.signal, signal],
    );
    let replica: Replica | undefined;
    try {
      // The token function may never return. The next stream calls it again.
      const authorization = tokens && (await withTimeout(tokens.header(), this.clock, timeoutMs, ended));
      replica = await pool.ready(undefined, timeoutMs, ended);
      yield* serverStreaming(replica, method, message, {
        requestId: randomUUID(),
        authorization,
        userAgent,
        signal: ended,
      });
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof TenantAuthError && error.kind === "unauthenticated") tokens?.markRejected();
      throw error;
    } finally {
      if (signal?.reason === NO_EVENTS) void replica?.checkLiveness();
    }
  }

  /** A hedge is an early retry and is withdrawn from the same budget. */
  #hedgeTo(first: Replica): Replica | undefined {
    const other = this.#shared.pool.alternativeTo(first);
    return other !== undefined && this.#shared.budget.withdraw() ? other : undefined;
  }
}

/** Whether a call is read-only and may therefore be sent twice. Determined by the contract's naming of RPCs. */
export function isRead({ name }: { readonly name: string }): boolean {
  return /^(Validate|BatchValidate|Get|Inspect|Explain|List|Query)/.test(name);
}

/** Returns the caller's timeout, validated, or the default. */
export function limit(timeoutMs: number | undefined, byDefault: number): number {
  return timeoutMs === undefined ? byDefault : milliseconds("timeoutMs", timeoutMs);
}
