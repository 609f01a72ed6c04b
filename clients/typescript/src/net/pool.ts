import { isIP } from "node:net";
import { TenantAuthError } from "../error.js";
import { withTimeout } from "../rpc/with-timeout.js";
import { Addresses } from "./addresses.js";
import type { Endpoint } from "./endpoint.js";
import { environmentProxy } from "./proxy.js";
import { Replica, type ReplicaOptions } from "./replica.js";

/** Options of the pool. */
export interface PoolOptions extends Omit<ReplicaOptions, "changed"> {
  readonly endpoints: readonly Endpoint[];
  /** Whether to use the proxy of the environment variables. */
  readonly useEnvironmentProxy: boolean;
}

/** One replica per address of each endpoint, used in turn. */
export class Pool {
  readonly #options: PoolOptions;
  readonly #names = new Map<Endpoint, Addresses>();
  #replicas: Replica[] = [];
  #nextIndex = 0;
  #waiting: (() => void)[] = [];

  constructor(options: PoolOptions) {
    this.#options = options;
    for (const endpoint of options.endpoints) {
      const proxy = options.useEnvironmentProxy ? environmentProxy(endpoint) : undefined;
      if (proxy !== undefined || isIP(endpoint.host)) this.#add(endpoint, endpoint.host, proxy);
      else this.#lookUp(endpoint);
    }
  }

  /**
   * Returns the next connected replica, as soon as there is one. A suspected replica, and the one to avoid, are used
   * only if there is no other. Fails if all addresses are known to be unreachable.
   */
  async ready(
    avoid: Replica | undefined,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Replica> {
    const { clock } = this.#options;
    const end = clock.monotonic() + timeoutMs;
    for (;;) {
      const connected = this.#next((replica) => !replica.checkPending && replica !== avoid);
      const replica = connected ?? this.#next((replica) => !replica.checkPending) ?? this.#next(() => true);
      if (replica !== undefined) return replica;
      const change = new Promise<void>((resolve) => this.#waiting.push(resolve));
      const unreachable = this.#unreachableError();
      if (unreachable !== undefined) throw unreachable;
      await withTimeout(change, clock, end - clock.monotonic(), signal);
    }
  }

  /** Returns another replica that is connected and not suspected, if there is one. */
  alternativeTo(than: Replica): Replica | undefined {
    return this.#next((replica) => replica !== than && !replica.checkPending);
  }

  /** Makes no more connections, and closes each one after its calls in flight. */
  close(): void {
    for (const name of this.#names.values()) name.close();
    for (const replica of this.#replicas) replica.retire();
  }

  #next(wanted: (replica: Replica) => boolean): Replica | undefined {
    const count = this.#replicas.length;
    for (let step = 0; step < count; step += 1) {
      const at = (this.#nextIndex + step) % count;
      const replica = this.#replicas[at];
      if (replica?.connection === undefined || !wanted(replica)) continue;
      this.#nextIndex = (at + 1) % count;
      return replica;
    }
    return undefined;
  }

  #unreachableError(): TenantAuthError | undefined {
    const reasons: string[] = [];
    for (const [{ host }, name] of this.#names) {
      const known = this.#replicas.some(({ endpoint }) => this.#names.get(endpoint) === name);
      if (!known && name.failure === undefined) return undefined;
      if (!known) reasons.push(`${host}: ${name.failure?.message}`);
    }
    for (const { endpoint, address, failure } of this.#replicas) {
      if (failure === undefined) return undefined;
      const place = endpoint.host === address ? endpoint.authority : `${endpoint.authority} at ${address}`;
      reasons.push(`${place}: ${failure.message}`);
    }
    return new TenantAuthError("UNAVAILABLE", `the service is unreachable: ${reasons.join("; ")}`);
  }

  #lookUp(endpoint: Endpoint): void {
    const found = (addresses: readonly string[]): void => {
      const mine = this.#replicas.filter((replica) => replica.endpoint === endpoint);
      const gone = mine.filter(({ address }) => !addresses.includes(address));
      for (const replica of gone) replica.retire();
      this.#replicas = this.#replicas.filter((replica) => !gone.includes(replica));
      const known = new Set(mine.map(({ address }) => address));
      for (const address of addresses) if (!known.has(address)) this.#add(endpoint, address, undefined);
      this.#changed();
    };
    this.#names.set(
      endpoint,
      new Addresses(endpoint.host, this.#options.clock, found, () => this.#changed()),
    );
  }

  #add(endpoint: Endpoint, address: string, proxy: URL | undefined): void {
    const changed = ({ connection }: Replica): void => {
      if (connection === undefined) this.#names.get(endpoint)?.refresh();
      this.#changed();
    };
    this.#replicas.push(new Replica({ endpoint, address, proxy }, { ...this.#options, changed }));
  }

  #changed(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const tell of waiting) tell();
  }
}
