import type { Clock } from "../clock.js";
import { TenantAuthError } from "../error.js";
import { limit } from "../rpc/caller.js";
import { patiently } from "../rpc/patience.js";
import { forScopes, type Validation } from "../validation.js";
import { type NearCache, subject } from "./cache.js";
import { Digests } from "./digest.js";
import type { Asked } from "./entry.js";
import { Flights } from "./flights.js";

/** A request that the near cache may answer. */
export interface Question<V extends Validation> {
  readonly digest: string;
  readonly sessionDigest?: string;
  readonly scopes: readonly string[];
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Sends the request to the service, with these scopes and this timeout. */
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

/** An answer of the service, and the cache state when it was requested. */
interface Landed {
  readonly answer: Validation;
  readonly asked: Asked;
}

const MOST_SCOPES = 32;
const SCOPE = /^[a-z0-9:._\-/*]{1,64}$/;

/** Answers requests from the cache if possible, and merges identical concurrent requests. */
export class Near {
  readonly digests = new Digests();
  readonly #cache: NearCache;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #flights = new Flights<Landed>();

  constructor(cache: NearCache, clock: Clock, timeoutMs: number) {
    this.#cache = cache;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  async answer<V extends Validation>(question: Question<V>): Promise<V> {
    const { digest, scopes, signal } = question;
    const timeoutMs = limit(question.timeoutMs, this.#timeoutMs);
    signal?.throwIfAborted();
    const end = this.#clock.monotonic() + timeoutMs;
    // Requests with invalid scopes go to the service, which returns a precise error.
    if (!scopesAreSound(scopes))
      return await patiently(question.ask(scopes, timeoutMs), this.#clock, timeoutMs, signal);
    for (;;) {
      const near = this.#cache.lookup<V>(digest, scopes);
      if (near !== undefined) return near;
      const left = end - this.#clock.monotonic();
      const { position } = this.#cache.asking();
      const { answer: landing, joined } = this.#flights.join(digest, () => this.#ask(question, left));
      try {
        const { answer, asked } = await patiently(landing, this.#clock, left, signal);
        // A request made after a change must not get an answer requested before it.
        const outdated =
          joined && asked.position < position && !this.#cache.current(answer, asked, question.sessionDigest);
        if (!outdated) return forScopes(answer as V, scopes);
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
   * Requests the answer without scopes, because it contains all scopes of the key. Continues when its first caller
   * gives up; it has at least the default timeout.
   */
  async #ask(question: Question<Validation>, left: number): Promise<Landed> {
    const asked = this.#cache.asking();
    const answer = await question.ask([], Math.max(left, this.#timeoutMs));
    this.#cache.keep(question.digest, answer, asked, question.sessionDigest);
    return { answer, asked };
  }
}

function scopesAreSound(scopes: readonly string[]): boolean {
  return scopes.length <= MOST_SCOPES && scopes.every((scope) => SCOPE.test(scope));
}
