import { type Clock, elapsed, type Moment } from "../clock.js";
import type { NetworkLimits } from "../networks.js";
import { printable } from "../printable.js";
import { type Conditions, evaluate, type Validation } from "../validation.js";
import type { Coverage } from "./coverage.js";

/** State of the cache when a request was sent. */
export interface RequestStart {
  readonly at: Moment;
  readonly epoch: number | undefined;
  readonly position: number;
}

/** An answer of the service, and the cache state when it was requested. */
export interface AnsweredRequest<V extends Validation> {
  readonly answer: V;
  /** The networks of the answer, parsed once for all its uses. */
  readonly limits: NetworkLimits;
  readonly start: RequestStart;
}

/** A cached answer. */
export interface Entry<V extends Validation> extends AnsweredRequest<V> {
  readonly digest: string;
  /** The subjects whose invalidation removes the entry. */
  readonly subjects: readonly string[];
}

/** An answer for one caller, and what is known about changes since its request. */
export interface Answered<V extends Validation> {
  readonly answer: V;
  /** The subjects whose invalidation concerns the answer. */
  readonly subjects: readonly string[];
  /** Whether no change is known that the answer does not reflect. */
  isCurrent(): boolean;
  /** Whether the watch stream names every change of the subjects since the request. */
  isCovered(): boolean;
}

/** An answer about whose changes nothing is known. */
export function uncovered<V extends Validation>(answer: V): Answered<V> {
  return { answer, subjects: [], isCurrent: () => true, isCovered: () => false };
}

/** Whether an entry may still be used; see tenant-auth-svc/docs/near-cache.md. */
export function isUsable(
  { answer, start }: Entry<Validation>,
  clock: Clock,
  coverage: Coverage,
  watchedForMs: number,
): boolean {
  const age = elapsed(clock, start.at);
  if (age < answer.cacheableForMs) return true;
  if (age >= Math.min(answer.cacheableWhileWatchedMs, watchedForMs) || isNegative(answer)) return false;
  return (
    start.epoch !== undefined && start.epoch === coverage.epoch() && answer.revision >= coverage.minRevision
  );
}

/** Whether an answer has no id that an invalidation could name. Changes of such answers are not streamed. */
export function isNegative({
  tenantId,
  keyId,
  presentedKeyId,
}: Validation & { presentedKeyId?: string }): boolean {
  return tenantId === "" && keyId === "" && !presentedKeyId;
}

/** Returns a cached answer, evaluated for the conditions of a request. */
export function fromCache<V extends Validation>(entry: Entry<V>, conditions: Conditions, clock: Clock): V {
  const age = elapsed(clock, entry.start.at);
  const { answer, limits } = entry;
  return printable({
    ...answer,
    ...evaluate(answer, limits, conditions),
    // The Date is copied because the caller may change it.
    ...(answer.expiresAt === undefined ? {} : { expiresAt: new Date(answer.expiresAt) }),
    source: "NEAR",
    ageMs: answer.ageMs + age,
    cacheableForMs: Math.max(0, answer.cacheableForMs - age),
    cacheableWhileWatchedMs: Math.max(0, answer.cacheableWhileWatchedMs - age),
  });
}
