import { randomUUID } from "node:crypto";
import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { type Clock, sleep } from "../clock.js";
import { deadlineExceeded, TenantAuthError } from "../error.js";
import { serverStreaming, unary } from "./attempt.js";
import type { CallerTokens } from "./caller-token.js";
import type { Endpoints } from "./endpoints.js";
import { patiently } from "./patience.js";
import { type RetryBudget, retriable, retryDelay } from "./retry.js";

/** Limits of one call. */
export interface CallOptions {
  /** How long to wait at most, retries included, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** Gives up when aborted: the call then fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** A call that may not be made twice is not retried. */
export interface CallerOptions extends CallOptions {
  readonly once?: boolean;
}

/** What every call of a client shares. */
export interface Callers {
  readonly endpoints: Endpoints;
  readonly tokens: CallerTokens | undefined;
  readonly budget: RetryBudget;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Makes calls: within a deadline, retried while that can help, and named so that the service's log can be searched. */
export class Caller {
  readonly #shared: Callers;

  constructor(shared: Callers) {
    this.#shared = shared;
  }

  get clock(): Clock {
    return this.#shared.clock;
  }

  /** How long a call may take unless it says otherwise, in milliseconds. */
  get timeoutMs(): number {
    return this.#shared.timeoutMs;
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    message: MessageShape<I>,
    options: CallerOptions = {},
  ): Promise<MessageShape<O>> {
    const { clock, budget, endpoints, tokens } = this.#shared;
    const requestId = randomUUID();
    const end = clock.monotonic() + limit(options.timeoutMs, this.timeoutMs);
    const { signal } = options;
    budget.deposit();
    for (let retries = 0; ; retries += 1) {
      try {
        const left = (): number => end - clock.monotonic();
        // Whoever gives the token may take their time, but not more than there is.
        const authorization = tokens && (await patiently(tokens.header(), clock, left(), signal));
        if (left() <= 0) throw deadlineExceeded(requestId);
        const attempt = { requestId, authorization, timeoutMs: left(), signal };
        return await unary(endpoints.next(), method, message, attempt);
      } catch (error) {
        if (!(error instanceof TenantAuthError)) throw error;
        if (error.kind === "unauthenticated") tokens?.refused();
        if (options.once || !retriable(error)) throw error;
        const delay = retryDelay(error, retries);
        // Waiting past the deadline would only hide what went wrong.
        if (delay >= end - clock.monotonic() || !budget.withdraw()) throw error;
        await sleep(clock, delay, signal);
        signal?.throwIfAborted();
      }
    }
  }

  /** Reads a stream once: whoever reads it knows how to go on after a break. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O> & { methodKind: "server_streaming" },
    message: MessageShape<I>,
    signal?: AbortSignal,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const { endpoints, tokens } = this.#shared;
    try {
      const opening = { requestId: randomUUID(), authorization: await tokens?.header(), signal };
      yield* serverStreaming(endpoints.next(), method, message, opening);
    } catch (error) {
      if (error instanceof TenantAuthError && error.kind === "unauthenticated") tokens?.refused();
      throw error;
    }
  }
}

/** A deadline of the caller's, checked, or the default. */
export function limit(timeoutMs: number | undefined, byDefault: number): number {
  if (timeoutMs === undefined) return byDefault;
  if (!(timeoutMs > 0)) throw new TypeError("timeoutMs must be more than 0");
  return timeoutMs;
}
