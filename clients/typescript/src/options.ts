import { type Clock, systemClock } from "./clock.js";
import type { CallerToken } from "./rpc/caller-token.js";
import type { TlsOptions } from "./rpc/endpoints.js";
import { VERSION } from "./version.js";

/** Settings of the near-cache. */
export interface NearCacheOptions {
  /** How many answers are kept; 10,000 unless set. The one that was used longest ago goes first. */
  readonly capacity?: number;
  /** For how long an answer may be used while the watch is alive, in milliseconds; 60,000 unless set. */
  readonly watchedForMs?: number;
  /** Whether to listen for changes; true unless set. Without it an answer is used as long as the service said. */
  readonly watch?: boolean;
}

/** Settings of a `Client`; see the README for a table. */
export interface ClientOptions {
  /** How long a call may take, retries included, in milliseconds; 1,000 unless set. */
  readonly timeoutMs?: number;
  /** TLS for endpoints given as `host:port`; true means with the machine's own roots. Plaintext unless set. */
  readonly tls?: TlsOptions | boolean;
  /** Who calls: a bearer token, a function that gives it, or a file that holds it. None unless set. */
  readonly callerToken?: CallerToken;
  /** Who calls, for the service's log, such as `orders/1.4`. */
  readonly userAgent?: string;
  /** The near-cache; `false` switches it off. */
  readonly nearCache?: NearCacheOptions | boolean;
  /** The share of calls that may be retried; 0.1 unless set, 0 for no retries. */
  readonly retryBudget?: number;
  /** How often a silent connection is asked whether it is alive, in milliseconds; 20,000 unless set. */
  readonly keepaliveIntervalMs?: number;
  /** How long it has to answer that, in milliseconds; 10,000 unless set. */
  readonly keepaliveTimeoutMs?: number;
  /** Time; the machine's unless set. For tests. */
  readonly clock?: Clock;
}

/** The same with every default in place. */
export interface Settings {
  readonly timeoutMs: number;
  readonly tls: TlsOptions | boolean;
  readonly callerToken: CallerToken | undefined;
  readonly userAgent: string;
  readonly nearCache: Required<NearCacheOptions> | undefined;
  readonly retryBudget: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly clock: Clock;
}

export function settings(options: ClientOptions): Settings {
  return {
    timeoutMs: positive("timeoutMs", options.timeoutMs ?? 1000),
    tls: options.tls ?? false,
    callerToken: options.callerToken,
    userAgent: options.userAgent ?? `tenant-auth-client-node/${VERSION}`,
    nearCache: nearCache(options.nearCache ?? true),
    retryBudget: share("retryBudget", options.retryBudget ?? 0.1),
    keepaliveIntervalMs: positive("keepaliveIntervalMs", options.keepaliveIntervalMs ?? 20_000),
    keepaliveTimeoutMs: positive("keepaliveTimeoutMs", options.keepaliveTimeoutMs ?? 10_000),
    clock: options.clock ?? systemClock,
  };
}

function nearCache(options: NearCacheOptions | boolean): Required<NearCacheOptions> | undefined {
  if (options === false) return undefined;
  const { capacity = 10_000, watchedForMs = 60_000, watch = true } = options === true ? {} : options;
  return {
    capacity: positive("nearCache.capacity", capacity),
    watchedForMs: positive("nearCache.watchedForMs", watchedForMs),
    watch,
  };
}

function positive(name: string, value: number): number {
  if (!(value > 0 && Number.isFinite(value))) throw new TypeError(`${name} must be more than 0`);
  return value;
}

function share(name: string, value: number): number {
  if (!(value >= 0 && value <= 1)) throw new TypeError(`${name} must be between 0 and 1`);
  return value;
}
