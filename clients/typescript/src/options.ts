import * as checks from "./checks.js";
import { type Clock, systemClock } from "./clock.js";
import { Tls, type TlsOptions } from "./net/tls.js";
import type { CallerToken } from "./rpc/caller-token.js";
import { VERSION } from "./version.js";

/** Settings of the near-cache. */
export interface NearCacheOptions {
  /** How many answers are kept; 10,000 unless set. The one that was used longest ago goes first. */
  readonly capacity?: number;
  /** For how long an answer is used at most while the watch is alive, in milliseconds; what the service says unless set. */
  readonly watchedForMs?: number;
  /** Whether to listen for changes; true unless set. Without it an answer is used for its `cacheableForMs`. */
  readonly watch?: boolean;
}

/** Settings of a `Client`; see the README for a table. */
export interface ClientOptions {
  /** How long a call may take, with all its attempts, in milliseconds; 1,000 unless set. */
  readonly timeoutMs?: number;
  /** When a read without an answer is sent to another replica as well, in milliseconds; a quarter of its timeout unless set. */
  readonly hedgeAfterMs?: number;
  /** TLS for endpoints without a scheme; true means with the machine's own roots. Plaintext unless set. */
  readonly tls?: TlsOptions | boolean;
  /** Who calls: a bearer token, a function that gives it, or a file that holds it. None unless set. */
  readonly callerToken?: CallerToken;
  /** Who calls, for the service's log, such as `orders/1.4`. */
  readonly userAgent?: string;
  /** The near-cache; `false` switches it off. */
  readonly nearCache?: NearCacheOptions | boolean;
  /** The share of calls that may be retried or hedged; 0.1 unless set, 0 for none. */
  readonly retryBudget?: number;
  /** How often a silent connection is asked whether it is alive, in milliseconds; 20,000 unless set. */
  readonly keepaliveIntervalMs?: number;
  /** How long it has to answer that, in milliseconds; 10,000 unless set. */
  readonly keepaliveTimeoutMs?: number;
  /** Whether `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are heeded; false unless set. */
  readonly useEnvironmentProxy?: boolean;
  /** Time; the machine's unless set. For tests. */
  readonly clock?: Clock;
}

/** The same, checked, with every default in place. */
export interface Settings {
  readonly timeoutMs: number;
  readonly hedgeAfterMs: number | undefined;
  readonly tls: Tls | undefined;
  readonly callerToken: CallerToken | undefined;
  readonly userAgent: string;
  readonly nearCache: NearSettings | undefined;
  readonly retryBudget: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly useEnvironmentProxy: boolean;
  readonly clock: Clock;
}

/** The near-cache's, with every default in place. */
export interface NearSettings {
  readonly capacity: number;
  /** No limit of its own unless set. */
  readonly watchedForMs: number;
  readonly watch: boolean;
}

const CLIENT_OPTIONS = [
  "timeoutMs",
  "hedgeAfterMs",
  "tls",
  "callerToken",
  "userAgent",
  "nearCache",
  "retryBudget",
  "keepaliveIntervalMs",
  "keepaliveTimeoutMs",
  "useEnvironmentProxy",
  "clock",
] as const;

export function settings(given: ClientOptions): Settings {
  const options = checks.options("options", given, CLIENT_OPTIONS);
  // Only what is not given has a default: `tls: null` would be plaintext.
  const { timeoutMs = 1000, hedgeAfterMs, retryBudget = 0.1, useEnvironmentProxy = false } = options;
  const { keepaliveIntervalMs = 20_000, keepaliveTimeoutMs = 10_000 } = options;
  return {
    timeoutMs: checks.milliseconds("timeoutMs", timeoutMs),
    hedgeAfterMs: hedgeAfterMs === undefined ? undefined : checks.milliseconds("hedgeAfterMs", hedgeAfterMs),
    tls: tls(options.tls),
    callerToken: options.callerToken,
    userAgent: userAgent(options.userAgent),
    nearCache: nearCache(options.nearCache),
    retryBudget: checks.share("retryBudget", retryBudget),
    keepaliveIntervalMs: checks.milliseconds("keepaliveIntervalMs", keepaliveIntervalMs),
    keepaliveTimeoutMs: checks.milliseconds("keepaliveTimeoutMs", keepaliveTimeoutMs),
    useEnvironmentProxy: checks.flag("useEnvironmentProxy", useEnvironmentProxy),
    clock: clock(options.clock),
  };
}

function userAgent(given = `tenant-auth-client-node/${VERSION}`): string {
  return checks.headerText("userAgent", given);
}

function tls(given: TlsOptions | boolean = false): Tls | undefined {
  if (given === false) return undefined;
  if (given === true) return new Tls({});
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new TypeError("tls must be true, false or an object");
  return new Tls(given);
}

function nearCache(given: NearCacheOptions | boolean = true): NearSettings | undefined {
  if (given === false) return undefined;
  const known = ["capacity", "watchedForMs", "watch"] as const;
  const options = checks.options("nearCache", given === true ? {} : given, known);
  const { capacity = 10_000, watchedForMs, watch = true } = options;
  return {
    capacity: checks.count("nearCache.capacity", capacity),
    watchedForMs:
      watchedForMs === undefined
        ? Number.POSITIVE_INFINITY
        : checks.milliseconds("nearCache.watchedForMs", watchedForMs),
    watch: checks.flag("nearCache.watch", watch),
  };
}

function clock(given: Clock = systemClock): Clock {
  for (const name of ["now", "monotonic", "after"] as const) {
    if (typeof given?.[name] !== "function") throw new TypeError(`clock must have a function ${name}`);
  }
  return given;
}
