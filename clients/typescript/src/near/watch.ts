import { create } from "@bufbuild/protobuf";
import { type Clock, sleep } from "../clock.js";
import { TenantAuthError } from "../error.js";
import {
  type Invalidation,
  InvalidationScope,
  WatchRequestSchema,
  type WatchResponse,
  WatchService,
} from "../gen/tenantauth/v1/watch_pb.js";
import { printable } from "../printable.js";
import { fullJitter } from "../rpc/retry.js";
import { NO_EVENTS, type RpcClient } from "../rpc/rpc-client.js";
import { type NearCache, subject } from "./cache.js";
import { type Coverage, LIVENESS_TIMEOUT_MS } from "./coverage.js";
import type { Digests } from "./digest.js";

const INITIAL_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5000;
/** Delay if the service does not offer the stream. It may be replaced by a version that does. */
const UNIMPLEMENTED_RETRY_MS = 60_000;

/** State of the watch stream. */
export interface WatchState {
  /** Whether an event arrived within the last three seconds. */
  readonly live: boolean;
  /** The last revision that was handled; 0 before the first. */
  readonly revision: bigint;
}

/** Follows the watch stream until it is closed, and applies its invalidations to the near cache. */
export class Watcher {
  readonly #rpc: RpcClient;
  readonly #clock: Clock;
  readonly #cache: NearCache;
  readonly #coverage: Coverage;
  readonly #digests: Digests;
  readonly #closed = new AbortController();
  #revision = 0n;
  #failures = 0;

  constructor(rpc: RpcClient, cache: NearCache, coverage: Coverage, digests: Digests) {
    this.#rpc = rpc;
    this.#clock = rpc.clock;
    this.#cache = cache;
    this.#coverage = coverage;
    this.#digests = digests;
  }

  state(): WatchState {
    return printable({ live: this.#coverage.live(), revision: this.#revision });
  }

  close(): void {
    this.#closed.abort();
    this.#coverage.markNotLive();
  }

  async run(): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      const served = await this.#readStream();
      if (signal.aborted) return;
      const backoff = fullJitter(INITIAL_BACKOFF_MS, MAX_BACKOFF_MS, this.#failures);
      this.#failures += 1;
      await sleep(this.#clock, served ? backoff : UNIMPLEMENTED_RETRY_MS, signal);
    }
  }

  /** Reads one stream until it ends. Returns whether the service offers the stream. */
  async #readStream(): Promise<boolean> {
    // Resuming from 0 starts with the changes made from now on, so earlier changes may be missed.
    if (this.#revision === 0n) this.#coverage.markNotLive();
    const stop = new AbortController();
    const giveUp = (): void => stop.abort(NO_EVENTS);
    const end = (): void => stop.abort();
    this.#closed.signal.addEventListener("abort", end, { once: true });
    let cancelSilence = this.#clock.after(LIVENESS_TIMEOUT_MS, giveUp);
    try {
      const request = create(WatchRequestSchema, { resumeAfterRevision: this.#revision });
      for await (const message of this.#rpc.stream(WatchService.method.watch, request, stop.signal)) {
        if (this.#closed.signal.aborted) break;
        cancelSilence();
        cancelSilence = this.#clock.after(LIVENESS_TIMEOUT_MS, giveUp);
        this.#failures = 0;
        this.#applyEvent(message);
      }
      return true;
    } catch (error) {
      // The service does not implement the stream, or does not follow the change log.
      const unserved = ["UNIMPLEMENTED", "FAILED_PRECONDITION"];
      return !(error instanceof TenantAuthError && unserved.includes(error.code));
    } finally {
      cancelSilence();
      this.#closed.signal.removeEventListener("abort", end);
    }
  }

  #applyEvent(message: WatchResponse): void {
    const { event, revision } = message;
    this.#coverage.recordEvent(revision);
    if (event.case === "heartbeat") {
      if (revision > this.#revision) this.#revision = revision;
    } else if (event.case === "invalidation" && this.#invalidate(event.value, revision)) {
      if (revision > this.#revision) this.#revision = revision;
    } else {
      // START_OVER, or an event that this version does not know: no cached answer can be trusted.
      this.#coverage.startEpoch(revision);
      this.#cache.clear();
      this.#revision = revision;
    }
  }

  /** Returns whether the scope is known. */
  #invalidate({ scope, id }: Invalidation, revision: bigint): boolean {
    if (scope === InvalidationScope.KEY) this.#cache.invalidate(subject.key(id), revision);
    else if (scope === InvalidationScope.TENANT) this.#cache.invalidate(subject.tenant(id), revision);
    else if (scope === InvalidationScope.SESSION) {
      this.#cache.invalidate(subject.session(this.#digests.session(id)), revision);
    } else return false;
    return true;
  }
}
