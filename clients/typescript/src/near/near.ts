import type { Clock } from "../clock.js";
import { TenantAuthError } from "../error.js";
import { limit } from "../rpc/caller.js";
import { patiently } from "../rpc/patience.js";
import { forScopes, type Validation } from "../validation.js";
import { type NearCache, subject } from "./cache.js";
import { Digests } from "./digest.js";
import type { Asked } from "./entry.js";
import { Flights } from "./flights.js";

/** A question that memory may answer. */
export interface Question<V extends Validation> {
  readonly digest: string;
  readonly sessionDigest?: string;
  readonly scopes: readonly string[];
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Asks the service about these scopes, which may take so long. */
  readonly ask: (scopes: readonly string[], timeoutMs: number) => Promise<V>;
}

/** What a change is about, by the fields of the request: the first that is set of a session, a key and a tenant. */
export interface Changed {
  readonly sessionId?: string;
  readonly keyId?: string;
  readonly tenantId?: string;
}

/** An answer of the service, and when it was asked for. */
interface Landed {
  readonly answer: Validation;
  readonly asked: Asked;
}

const MOST_SCOPES = 32;
const SCOPE = /^[a-z0-9:._\-/*]{1,64}$/;

/** Answers from memory where that is sound, and asks once for all who want to know the same. */
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
    // What the service may refuse is the service's to refuse.
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
        // Who asks after the news of a change is not answered with what was asked before it.
        const outdated =
          joined && asked.position < position && !this.#cache.current(answer, asked, question.sessionDigest);
        if (!outdated) return forScopes(answer as V, scopes);
      } catch (error) {
        // The one who asked had less time than we have.
        const late = error instanceof TenantAuthError && error.kind === "deadline";
        if (!joined || !late || end - this.#clock.monotonic() <= 0) throw error;
      }
    }
  }

  /** This process has changed something, or tried to: what was known of it, or is being asked, is not relied on. */
  changed({ keyId, sessionId, tenantId }: Changed): void {
    const { session, key, tenant } = subject;
    if (sessionId) this.#cache.invalidate(session(this.digests.session(sessionId)), undefined);
    else if (keyId) this.#cache.invalidate(key(keyId), undefined);
    else if (tenantId) this.#cache.invalidate(tenant(tenantId), undefined);
    else this.#cache.clear();
  }

  /**
   * Asks without scopes, which the answer names all: it is compared with them here. Goes on when its first caller gives
   * up: it has the default time at least.
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
