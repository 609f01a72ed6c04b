import { type Clock, elapsed, type Moment } from "../clock.js";
import { printable } from "../printable.js";
import { forScopes, type Validation } from "../validation.js";
import type { Coverage } from "./coverage.js";

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
}

/** Whether an entry may still be used: tenant-auth-svc/docs/near-cache.md. */
export function usable(
  { answer, asked }: Entry<Validation>,
  clock: Clock,
  coverage: Coverage,
  watchedForMs: number,
): boolean {
  const age = elapsed(clock, asked.at);
  if (age < answer.cacheableForMs) return true;
  if (age >= Math.min(answer.cacheableWhileWatchedMs, watchedForMs) || nameless(answer)) return false;
  return (
    asked.stretch !== undefined && asked.stretch === coverage.stretch() && answer.revision >= coverage.floor
  );
}

/** Whether it bears no id that an invalidation could name: nobody would tell of a change. */
export function nameless({
  tenantId,
  keyId,
  presentedKeyId,
}: Validation & { presentedKeyId?: string }): boolean {
  return tenantId === "" && keyId === "" && !presentedKeyId;
}

/** The answer from memory for some scopes. */
export function fromMemory<V extends Validation>(
  entry: Entry<V>,
  scopes: readonly string[],
  clock: Clock,
): V {
  const age = elapsed(clock, entry.asked.at);
  const { answer } = entry;
  return printable({
    ...forScopes(answer, scopes),
    // A Date can be changed by whoever gets it.
    ...(answer.expiresAt === undefined ? {} : { expiresAt: new Date(answer.expiresAt) }),
    source: "NEAR",
    ageMs: answer.ageMs + age,
    cacheableForMs: Math.max(0, answer.cacheableForMs - age),
    cacheableWhileWatchedMs: Math.max(0, answer.cacheableWhileWatchedMs - age),
  });
}
