import { type Clock, moment } from "../clock.js";
import type { Validation } from "../validation.js";
import type { Coverage } from "./coverage.js";
import { type Asked, type Entry, endOf, fromMemory, usable } from "./entry.js";
import { Fences } from "./fences.js";

/** What the near-cache is given. */
export interface CacheOptions {
  readonly clock: Clock;
  readonly coverage: Coverage;
  /** How many answers are kept; the one that was used longest ago goes first. */
  readonly capacity: number;
  /** For how long an answer may be used while the watch is alive, in milliseconds. */
  readonly watchedForMs: number;
}

/** Names of what can change, as invalidations use them. */
export const subject = {
  key: (keyId: string): string => `key ${keyId}`,
  tenant: (tenantId: string): string => `tenant ${tenantId}`,
  /** By digest: a session's id can be as good as a password. */
  session: (digest: string): string => `session ${digest}`,
};

/** Answers in memory, found by the digest of what was asked about and dropped by what changed. */
export class NearCache {
  readonly #options: CacheOptions;
  readonly #fences: Fences;
  /** The one used longest ago first. */
  readonly #entries = new Map<string, Entry<Validation>>();
  readonly #bySubject = new Map<string, Set<Entry<Validation>>>();

  constructor(options: CacheOptions) {
    this.#options = options;
    this.#fences = new Fences(options.clock);
  }

  get size(): number {
    return this.#entries.size;
  }

  lookup<V extends Validation>(digest: string, scopes: readonly string[]): V | undefined {
    const entry = this.#entries.get(digest) as Entry<V> | undefined;
    if (entry === undefined) return undefined;
    const { clock, coverage, watchedForMs } = this.#options;
    if (!usable(entry, clock, coverage, watchedForMs)) {
      this.#remove(entry);
      return undefined;
    }
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    return fromMemory(entry, scopes, clock);
  }

  /** To be called before a request is sent. */
  asking(): Asked {
    const { clock, coverage } = this.#options;
    return { at: moment(clock), stretch: coverage.stretch(), position: this.#fences.position };
  }

  /** Whether nothing is known to have changed since an answer was asked for. */
  current(answer: Validation, asked: Asked, sessionDigest?: string): boolean {
    return this.#fences.admit(subjectsOf(answer, sessionDigest), answer.revision, asked.position);
  }

  /** Keeps an answer if the service allows it and nothing has changed since. */
  keep(digest: string, answer: Validation, asked: Asked, sessionDigest?: string): void {
    if (answer.cacheableForMs <= 0 || !this.current(answer, asked, sessionDigest)) return;
    const subjects = subjectsOf(answer, sessionDigest);
    const before = this.#entries.get(digest);
    if (before !== undefined) this.#remove(before);
    const entry = { digest, answer, asked, subjects, endsAt: endOf(answer, asked.at) };
    this.#entries.set(digest, entry);
    for (const name of subjects) {
      const about = this.#bySubject.get(name);
      if (about === undefined) this.#bySubject.set(name, new Set([entry]));
      else about.add(entry);
    }
    if (this.#entries.size > this.#options.capacity) this.#removeOldest();
  }

  /** Something changed at a revision (without one: just now): answers from before it are dropped, and not kept. */
  invalidate(name: string, revision: bigint | undefined): void {
    this.#fences.raise(name, revision);
    for (const entry of [...(this.#bySubject.get(name) ?? [])]) {
      if (revision === undefined || entry.answer.revision < revision) this.#remove(entry);
    }
  }

  /** Forgets everything, and keeps no answer that is under way. */
  clear(): void {
    this.#fences.raiseForAll();
    this.#entries.clear();
    this.#bySubject.clear();
  }

  #removeOldest(): void {
    const [oldest] = this.#entries.values();
    if (oldest !== undefined) this.#remove(oldest);
  }

  #remove(entry: Entry<Validation>): void {
    this.#entries.delete(entry.digest);
    for (const name of entry.subjects) {
      const about = this.#bySubject.get(name);
      about?.delete(entry);
      if (about?.size === 0) this.#bySubject.delete(name);
    }
  }
}

function subjectsOf(answer: Validation, sessionDigest: string | undefined): string[] {
  return [
    ...(answer.keyId === "" ? [] : [subject.key(answer.keyId)]),
    ...(answer.tenantId === "" ? [] : [subject.tenant(answer.tenantId)]),
    ...(sessionDigest === undefined ? [] : [subject.session(sessionDigest)]),
  ];
}
