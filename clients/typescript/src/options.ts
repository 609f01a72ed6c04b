import * as checks from "./checks.js";
import { type Clock, systemClock } from "./clock.js";
import { Tls, type TlsOptions } from "./net/tls.js";
import type { CallerToken } from "./rpc/caller-token.js";
import { VERSION } from "./version.js";

/** Options of the near cache. */
export interface NearCacheOptions {
  /** Maximum number of cached answers; default: 10,000. The least recently used one is evicted first. */
  readonly capacity?: number;
  /**
   * Maximum time that an answer is cached while the watch stream is live, in milliseconds; default: set by the service.
   */
  readonly watchedForMs?: number;
  /** Whether to follow the watch stream; default: true. Without it, answers are cached for their `cacheableForMs`. */
  readonly watch?: boolean;
}

/** Options of a `Client`; the README has a table. */
export interface ClientOptions {
  /** Timeout of a call, including all attempts, in milliseconds; default: 1,000. */
  readonly timeoutMs?: number;
  /**
   * Time after which a read without a response is also sent to another replica, in milliseconds; default: a quarter of
   * its timeout.
   */
  readonly hedgeAfterMs?: number;
  /** TLS for endpoints without a scheme. `true` means TLS with the system roots. Default: plaintext. */
  readonly tls?: TlsOptions | boolean;
  /** Identifies this caller: a bearer token, a function that returns it, or a file that contains it. Default: none. */
  readonly callerToken?: CallerToken;
  /** Name of the calling program, for the server log, such as `orders/1.4`. */
  readonly userAgent?: string;
  /** The near cache; `false` turns it off. */
  readonly nearCache?: NearCacheOptions | boolean;
  /** The fraction of calls that may be retried or hedged; default: 0.1; 0 turns retries off. */
  readonly retryBudget?: number;
  /** Interval of keepalive pings on a silent connection, in milliseconds; default: 20,000. */
  readonly keepaliveIntervalMs?: number;
  /** Timeout of a keepalive ping, in milliseconds; default: 10,000. */
  readonly keepaliveTimeoutMs?: number;
  /** Whether to use `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; default: false. */
  readonly useEnvironmentProxy?: boolean;
  /** The time source; default: the system clock. For tests. */
  readonly clock?: Clock;
}

/** Validated options with all defaults. */
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

/** Validated options of the near cache with all defaults. */
export interface NearSettings {
  readonly capacity: number;
  /** Infinity means no limit. */
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
  // Only `undefined` selects a default. `null` is rejected: `tls: null` would otherwise mean plaintext.
  const { timeoutMs = 1000, hedgeAfterMs, retryBudget = 0.1, useEnvironmentProxy = false } = options;
  const { keepaliveIntervalMs = 20_000, keepaliveTimeoutMs = 10_000 } = options;
  return {
    timeoutMs: checks.milliseconds("timeoutMs", timeoutMs),
    hedgeAfterMs: hedgeAfterMs === undefined ? undefined : checks.milliseconds("hedgeAfterMs", hedgeAfterMs),
    tls: tls(options.tls),
    callerToken: options.callerToken,
    userAgent: userAgent(options.userAgent),
    nearCache: nearCache(options.nearCache),
    retryBudget: checks.fraction("retryBudget", retryBudget),
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
