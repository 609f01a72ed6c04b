import dns from "node:dns/promises";
import { type Clock, elapsed, moment, sleep } from "../clock.js";

/** Interval of lookups of a name that has addresses. */
const REFRESH_INTERVAL_MS = 30_000;
/** Limits of the delay between lookups after a failure. */
const MIN_LOOKUP_DELAY_MS = 1000;
const MAX_LOOKUP_DELAY_MS = 5000;

/** Looks up the addresses of one name repeatedly. */
export class Addresses {
  readonly #host: string;
  readonly #clock: Clock;
  readonly #found: (addresses: readonly string[]) => void;
  readonly #failed: () => void;
  readonly #closed = new AbortController();
  #lookupRequested = new AbortController();
  #failure: Error | undefined;

  /** `found` is called with the addresses after each lookup, `failed` if the lookup failed. */
  constructor(host: string, clock: Clock, found: (addresses: readonly string[]) => void, failed: () => void) {
    this.#host = host;
    this.#clock = clock;
    this.#found = found;
    this.#failed = failed;
    void this.#run();
  }

  /** Why the last lookup failed. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Requests a lookup, because a connection failed and the name may have other addresses. */
  refresh(): void {
    this.#lookupRequested.abort();
  }

  close(): void {
    this.#closed.abort();
    this.#lookupRequested.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed;
    for (let failures = 0; !signal.aborted; ) {
      const startedAt = moment(this.#clock);
      try {
        const found = await dns.lookup(this.#host, { all: true });
        if (signal.aborted) return;
        if (found.length === 0) throw new Error(`${this.#host} has no addresses`);
        this.#failure = undefined;
        failures = 0;
        this.#found([...new Set(found.map(({ address }) => address))]);
      } catch (error) {
        if (signal.aborted) return;
        this.#failure = error as Error;
        failures += 1;
        this.#failed();
      }
      const delay =
        failures === 0
          ? REFRESH_INTERVAL_MS
          : Math.min(MAX_LOOKUP_DELAY_MS, MIN_LOOKUP_DELAY_MS * 1.5 ** (failures - 1));
      await sleep(
        this.#clock,
        delay,
        failures === 0 ? AbortSignal.any([this.#lookupRequested.signal, signal]) : signal,
      );
      this.#lookupRequested = new AbortController();
      await sleep(this.#clock, Math.max(0, MIN_LOOKUP_DELAY_MS - elapsed(this.#clock, startedAt)), signal);
    }
  }
}
