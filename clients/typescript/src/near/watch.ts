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
import { type Caller, SILENCE } from "../rpc/caller.js";
import { fullJitter } from "../rpc/retry.js";
import { type NearCache, subject } from "./cache.js";
import { type Coverage, LONGEST_SILENCE_MS } from "./coverage.js";
import type { Digests } from "./digest.js";

const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 5000;
/** A service that does not serve the watch may be replaced by one that does. */
const UNSERVED_RETRY_MS = 60_000;

/** Whether this process hears of changes as they happen. */
export interface WatchState {
  /** Whether the watch said something in the last three seconds. */
  readonly live: boolean;
  /** The last revision that was handled; 0 before the first. */
  readonly revision: bigint;
}

/** Reads invalidations as long as it is not closed, and makes the near-cache forget. */
export class Watcher {
  readonly #caller: Caller;
  readonly #clock: Clock;
  readonly #cache: NearCache;
  readonly #coverage: Coverage;
  readonly #digests: Digests;
  readonly #closed = new AbortController();
  #revision = 0n;
  #failures = 0;

  constructor(caller: Caller, cache: NearCache, coverage: Coverage, digests: Digests) {
    this.#caller = caller;
    this.#clock = caller.clock;
    this.#cache = cache;
    this.#coverage = coverage;
    this.#digests = digests;
  }

  state(): WatchState {
    return printable({ live: this.#coverage.live(), revision: this.#revision });
  }

  close(): void {
    this.#closed.abort();
    this.#coverage.lost();
  }

  async run(): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      const served = await this.#listen();
      if (signal.aborted) return;
      const backoff = fullJitter(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, this.#failures);
      this.#failures += 1;
      await sleep(this.#clock, served ? backoff : UNSERVED_RETRY_MS, signal);
    }
  }

  /** Reads one stream to its end, whatever ends it. Says whether the service serves watches at all. */
  async #listen(): Promise<boolean> {
    // From 0 on means from now on: what happened since the last stream is not told.
    if (this.#revision === 0n) this.#coverage.lost();
    const stop = new AbortController();
    const giveUp = (): void => stop.abort(SILENCE);
    const end = (): void => stop.abort();
    this.#closed.signal.addEventListener("abort", end, { once: true });
    let cancelSilence = this.#clock.after(LONGEST_SILENCE_MS, giveUp);
    try {
      const request = create(WatchRequestSchema, { resumeAfterRevision: this.#revision });
      for await (const message of this.#caller.stream(WatchService.method.watch, request, stop.signal)) {
        if (this.#closed.signal.aborted) break;
        cancelSilence();
        cancelSilence = this.#clock.after(LONGEST_SILENCE_MS, giveUp);
        this.#failures = 0;
        this.#handle(message);
      }
      return true;
    } catch (error) {
      // It has no stream, or does not follow the change log that the stream would tell of.
      const unserved = ["UNIMPLEMENTED", "FAILED_PRECONDITION"];
      return !(error instanceof TenantAuthError && unserved.includes(error.code));
    } finally {
      cancelSilence();
      this.#closed.signal.removeEventListener("abort", end);
    }
  }

  #handle(message: WatchResponse): void {
    const { event, revision } = message;
    this.#coverage.heard(revision);
    if (event.case === "heartbeat") {
      if (revision > this.#revision) this.#revision = revision;
    } else if (event.case === "invalidation" && this.#forget(event.value, revision)) {
      if (revision > this.#revision) this.#revision = revision;
    } else {
      // A start over, or something that only a later version understands: then nothing in memory can be trusted.
      this.#coverage.broken(revision);
      this.#cache.clear();
      this.#revision = revision;
    }
  }

  /** Says whether it was understood. */
  #forget({ scope, id }: Invalidation, revision: bigint): boolean {
    if (scope === InvalidationScope.KEY) this.#cache.invalidate(subject.key(id), revision);
    else if (scope === InvalidationScope.TENANT) this.#cache.invalidate(subject.tenant(id), revision);
    else if (scope === InvalidationScope.SESSION) {
      this.#cache.invalidate(subject.session(this.#digests.session(id)), revision);
    } else return false;
    return true;
  }
}
