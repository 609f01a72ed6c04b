import type { Clock } from "../clock.js";
import { TenantAuthError } from "../error.js";
import { limitsOf } from "../networks.js";
import { printable } from "../printable.js";
import { limit } from "../rpc/rpc-client.js";
import { withTimeout } from "../rpc/with-timeout.js";
import { type Conditions, evaluate, type Validation } from "../validation.js";
import { type NearCache, subject } from "./cache.js";
import { Digests } from "./digest.js";
import { type Answered, type AnsweredRequest, uncovered } from "./entry.js";
import { InFlightRequests } from "./in-flight.js";

/** A request that the near cache may answer. */
export interface CacheableRequest<V extends Validation> extends Conditions {
  readonly digest: string;
  readonly sessionDigest?: string;
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Sends the request to the service, with its address, these scopes and this timeout. */
  readonly ask: (scopes: readonly string[], timeoutMs: number) => Promise<V>;
}

/**
 * Names the subject of a local change, by the fields of the request. The first set field of session, key and tenant
 * counts.
 */
export interface Changed {
  readonly sessionId?: string;
  readonly keyId?: string;
  readonly tenantId?: string;
}

const MAX_SCOPES = 32;
const SCOPE = /^[a-z0-9:._\-/*]{1,64}$/;

/** Answers requests from the cache if possible, and merges identical concurrent requests. */
export class CachingValidator {
  readonly digests = new Digests();
  readonly #cache: NearCache;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #inFlight = new InFlightRequests<AnsweredRequest<Validation>>();

  constructor(cache: NearCache, clock: Clock, timeoutMs: number) {
    this.#cache = cache;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  async answer<V extends Validation>(query: CacheableRequest<V>): Promise<Answered<V>> {
    const { digest, sessionDigest, scopes, signal } = query;
    const timeoutMs = limit(query.timeoutMs, this.#timeoutMs);
    signal?.throwIfAborted();
    const end = this.#clock.monotonic() + timeoutMs;
    // Requests with invalid scopes go to the service, which returns a precise error.
    if (!areValidScopes(scopes))
      return uncovered(await withTimeout(query.ask(scopes, timeoutMs), this.#clock, timeoutMs, signal));
    for (;;) {
      const near = this.#cache.lookup<V>(digest, query, sessionDigest);
      if (near !== undefined) return near;
      const left = end - this.#clock.monotonic();
      const { position } = this.#cache.requestStart();
      const { answer: pending, joined } = this.#inFlight.join(digest, () => this.#request(query, left));
      try {
        const { answer, limits, start } = await withTimeout(pending, this.#clock, left, signal);
        // A request made after a change must not get an answer requested before it.
        const outdated =
          joined && start.position < position && !this.#cache.isCurrent(answer, start, sessionDigest);
        if (outdated) continue;
        const evaluated = printable({ ...(answer as V), ...evaluate(answer, limits, query) });
        return this.#cache.answered(evaluated, start, sessionDigest);
      } catch (error) {
        // The joined request had a shorter timeout than this one.
        const late = error instanceof TenantAuthError && error.kind === "deadline";
        if (!joined || !late || end - this.#clock.monotonic() <= 0) throw error;
      }
    }
  }

  /**
   * Applies a change that this process made or tried to make: cached answers and requests in flight are invalidated.
   */
  changed({ keyId, sessionId, tenantId }: Changed): void {
    const { session, key, tenant } = subject;
    if (sessionId) this.#cache.invalidate(session(this.digests.session(sessionId)), undefined);
    else if (keyId) this.#cache.invalidate(key(keyId), undefined);
    else if (tenantId) this.#cache.invalidate(tenant(tenantId), undefined);
    else this.#cache.clear();
  }

  /**
   * Requests the answer without scopes, because it contains all scopes and networks of the key. Continues when its first
   * caller gives up; it has at least the default timeout.
   */
  async #request(query: CacheableRequest<Validation>, left: number): Promise<AnsweredRequest<Validation>> {
    const start = this.#cache.requestStart();
    const answer = await query.ask([], Math.max(left, this.#timeoutMs));
    const answered = { answer, limits: limitsOf(answer), start };
    this.#cache.store(query.digest, answered, query.sessionDigest);
    return answered;
  }
}

function areValidScopes(scopes: readonly string[]): boolean {
  return scopes.length <= MAX_SCOPES && scopes.every((scope) => SCOPE.test(scope));
}
