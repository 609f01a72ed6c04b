import type { LimitDecision } from "../limits/decision.js";

/** The largest integer of a structured field (RFC 9651). */
const MAX_INTEGER = 999_999_999_999_999;

/**
 * Returns the headers that state the limits of a request (draft-ietf-httpapi-ratelimit-headers-10), in the order of the
 * limits. Shadow limits are left out.
 */
export function rateLimitHeaders(limits: readonly LimitDecision[]): Readonly<Record<string, string>> {
  const shown = limits.filter(({ shadow }) => !shadow);
  if (shown.length === 0) return {};
  const policies = shown.map(({ name, limit, windowMs }) =>
    item(name, { q: limit, w: windowMs === undefined ? undefined : Math.max(1, wholeSeconds(windowMs)) }),
  );
  const states = shown.map(({ name, remaining, resetAfterMs }) =>
    item(name, { r: remaining, t: resetAfterMs === undefined ? undefined : wholeSeconds(resetAfterMs) }),
  );
  return { "ratelimit-policy": policies.join(", "), ratelimit: states.join(", ") };
}

/** The value of `Retry-After`, rounded up to whole seconds, at least one. */
export function retryAfterSeconds(ms: number): string {
  return String(Math.max(1, wholeSeconds(ms)));
}

function wholeSeconds(ms: number): number {
  return Math.ceil(ms / 1000);
}

/** An item of a structured field. Names of limits contain no character that must be escaped. */
function item(name: string, parameters: Readonly<Record<string, number | undefined>>): string {
  const shown = Object.entries(parameters).flatMap(([key, value]) =>
    value === undefined ? [] : [`;${key}=${Math.min(MAX_INTEGER, Math.max(0, value))}`],
  );
  return `"${name}"${shown.join("")}`;
}
