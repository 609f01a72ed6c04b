import { type Clock, elapsed, type Moment } from "../clock.js";
import { forScopes, type Validation } from "../validation.js";
import type { Verdict } from "../verdict.js";
import type { Coverage } from "./coverage.js";

/** Verdicts about something that exists: whoever changes it, the watch names it. Of an unknown key it cannot tell. */
const WATCHED: ReadonlySet<Verdict> = new Set([
  "VALID",
  "INSUFFICIENT_SCOPE",
  "REVOKED",
  "EXPIRED",
  "TENANT_SUSPENDED",
]);

/** When a request was sent, and whether the watch was alive then. */
export interface Asked {
  readonly at: Moment;
  readonly stretch: number | undefined;
  readonly position: number;
}

/** An answer in memory. */
export interface Entry<V extends Validation> {
  readonly digest: string;
  readonly answer: V;
  readonly asked: Asked;
  /** What invalidations call it. */
  readonly subjects: readonly string[];
  /** When what it is about ends by itself, in milliseconds since the epoch. */
  readonly endsAt: number | undefined;
}

/** Whether an entry may still be used. */
export function usable(
  entry: Entry<Validation>,
  clock: Clock,
  coverage: Coverage,
  watchedForMs: number,
): boolean {
  if (entry.endsAt !== undefined && clock.now() >= entry.endsAt) return false;
  const age = elapsed(clock, entry.asked.at);
  if (age < entry.answer.cacheableForMs) return true;
  if (age >= watchedForMs || !WATCHED.has(entry.answer.verdict)) return false;
  return entry.asked.stretch !== undefined && entry.asked.stretch === coverage.stretch();
}

/** The answer from memory for some scopes. */
export function fromMemory<V extends Validation>(
  entry: Entry<V>,
  scopes: readonly string[],
  clock: Clock,
): V {
  const age = elapsed(clock, entry.asked.at);
  const { answer } = entry;
  return {
    ...forScopes(answer, scopes),
    // A Date can be changed by whoever gets it.
    ...(answer.expiresAt === undefined ? {} : { expiresAt: new Date(answer.expiresAt) }),
    source: "NEAR",
    ageMs: answer.ageMs + age,
    cacheableForMs: Math.max(0, answer.cacheableForMs - age),
  };
}

/** When the answer stops to be true by itself. What is over already, such as an expired key, stays so. */
export function endOf(answer: Validation, askedAt: Moment): number | undefined {
  const end = answer.expiresAt?.getTime();
  return end === undefined || (end <= askedAt.wall && answer.verdict === "EXPIRED") ? undefined : end;
}
