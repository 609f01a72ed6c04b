import { type Clock, moment } from "../clock.js";
import type { Conditions, Validation } from "../validation.js";
import { ChangeMarks } from "./change-marks.js";
import type { Coverage } from "./coverage.js";
import {
  type Answered,
  type AnsweredRequest,
  type Entry,
  fromCache,
  isNegative,
  isUsable,
  type RequestStart,
} from "./entry.js";
import { Lru } from "./lru.js";

/** Options of the near cache. */
export interface CacheOptions {
  readonly clock: Clock;
  readonly coverage: Coverage;
  /** Maximum number of cached answers; the least recently used one is evicted first. */
  readonly capacity: number;
  /** Maximum time that an answer is cached while the watch stream is live, in milliseconds. */
  readonly watchedForMs: number;
}

/** Names of the subjects of invalidations. */
export const subject = {
  key: (keyId: string): string => `key ${keyId}`,
  tenant: (tenantId: string): string => `tenant ${tenantId}`,
  /** By digest, because a session id can grant access like a password. */
  session: (digest: string): string => `session ${digest}`,
};

/**
 * The capacity for negative answers, as a fraction of the total: requests with unknown keys must not evict other
 * answers.
 */
const NEGATIVE_SHARE = 0.1;

/** Cached answers, by the digest of their request, with an index by subject for invalidations. */
export class NearCache {
  readonly #options: CacheOptions;
  readonly #marks: ChangeMarks;
  readonly #positive: Lru<Entry<Validation>>;
  readonly #negative: Lru<Entry<Validation>>;
  readonly #bySubject = new Map<string, Set<Entry<Validation>>>();
  #changed: (name: string | undefined) => void = () => undefined;

  constructor(options: CacheOptions) {
    this.#options = options;
    this.#marks = new ChangeMarks(options.clock, (revision) => options.coverage.raiseMinRevision(revision));
    this.#positive = new Lru(options.capacity);
    this.#negative = new Lru(Math.max(1, Math.floor(options.capacity * NEGATIVE_SHARE)));
  }

  /** Sets the listener that is called with each subject that has changed; `undefined`: any subject may have. */
  onChange(changed: (name: string | undefined) => void): void {
    this.#changed = changed;
  }

  lookup<V extends Validation>(
    digest: string,
    conditions: Conditions,
    sessionDigest?: string,
  ): Answered<V> | undefined {
    const entry = this.#get(digest) as Entry<V> | undefined;
    if (entry === undefined) return undefined;
    const { clock, coverage, watchedForMs } = this.#options;
    if (isUsable(entry, clock, coverage, watchedForMs))
      return this.answered(fromCache(entry, conditions, clock), entry.start, sessionDigest);
    this.#remove(entry);
    return undefined;
  }

  /** Returns an answer with what the cache knows about changes since its request. */
  answered<V extends Validation>(answer: V, start: RequestStart, sessionDigest?: string): Answered<V> {
    const { coverage } = this.#options;
    const isWatched = answer.cacheableWhileWatchedMs > 0 && start.epoch !== undefined;
    return {
      answer,
      subjects: subjectsOf(answer, sessionDigest),
      isCurrent: () => this.isCurrent(answer, start, sessionDigest),
      isCovered: () =>
        isWatched && start.epoch === coverage.epoch() && answer.revision >= coverage.epochRevision,
    };
  }

  /** Returns the state of the cache just before a request is sent. */
  requestStart(): RequestStart {
    const { clock, coverage } = this.#options;
    return { at: moment(clock), epoch: coverage.epoch(), position: this.#marks.position };
  }

  /** Whether no change is known since an answer was requested. */
  isCurrent(answer: Validation, start: RequestStart, sessionDigest?: string): boolean {
    return this.#marks.isCurrent(subjectsOf(answer, sessionDigest), answer.revision, start.position);
  }

  /** Whether a change of a key or its tenant after a revision is known. */
  hasChangedSince({
    keyId,
    tenantId,
    revision,
  }: Pick<Validation, "keyId" | "tenantId" | "revision">): boolean {
    return this.#marks.hasChangedSince(revision, [subject.key(keyId), subject.tenant(tenantId)]);
  }

  /** Caches an answer, if the service allows it and no change is known since its request. */
  store(digest: string, answered: AnsweredRequest<Validation>, sessionDigest?: string): void {
    const { answer, start } = answered;
    const useful = answer.cacheableForMs > 0 || answer.cacheableWhileWatchedMs > 0;
    if (!useful || !this.isCurrent(answer, start, sessionDigest)) return;
    const subjects = subjectsOf(answer, sessionDigest);
    const before = this.#get(digest);
    if (before !== undefined) this.#remove(before);
    const entry = { ...answered, digest, subjects };
    for (const name of subjects) {
      const about = this.#bySubject.get(name);
      if (about === undefined) this.#bySubject.set(name, new Set([entry]));
      else about.add(entry);
    }
    const evicted = (isNegative(answer) ? this.#negative : this.#positive).set(digest, entry);
    if (evicted !== undefined) this.#remove(evicted);
  }

  /**
   * Applies a change at a revision, or a local change without a revision: older answers are removed, and not cached
   * later.
   */
  invalidate(name: string, revision: bigint | undefined): void {
    this.#marks.record(name, revision);
    for (const entry of [...(this.#bySubject.get(name) ?? [])]) {
      if (revision === undefined || entry.answer.revision < revision) this.#remove(entry);
    }
    this.#changed(name);
  }

  /** Clears the cache. Answers to requests in flight are not cached. */
  clear(): void {
    this.#marks.recordAll();
    this.#positive.clear();
    this.#negative.clear();
    this.#bySubject.clear();
    this.#changed(undefined);
  }

  #get(digest: string): Entry<Validation> | undefined {
    return this.#positive.get(digest) ?? this.#negative.get(digest);
  }

  #remove(entry: Entry<Validation>): void {
    this.#positive.delete(entry.digest);
    this.#negative.delete(entry.digest);
    for (const name of entry.subjects) {
      const about = this.#bySubject.get(name);
      about?.delete(entry);
      if (about?.size === 0) this.#bySubject.delete(name);
    }
  }
}

function subjectsOf(
  answer: Validation & { presentedKeyId?: string },
  sessionDigest: string | undefined,
): string[] {
  return [
    ...(answer.keyId === "" ? [] : [subject.key(answer.keyId)]),
    ...(answer.presentedKeyId ? [subject.key(answer.presentedKeyId)] : []),
    ...(answer.tenantId === "" ? [] : [subject.tenant(answer.tenantId)]),
    ...(sessionDigest === undefined ? [] : [subject.session(sessionDigest)]),
  ];
}
