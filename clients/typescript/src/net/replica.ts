import { type Clock, sleep } from "../clock.js";
import { Connection, type Keepalive } from "./connection.js";
import { type Destination, openSocket } from "./socket.js";
import type { Tls } from "./tls.js";

/** Timeout of establishing a connection. */
const CONNECT_TIMEOUT_MS = 5000;
/** Delay before an address is retried after a failed connection. */
const RECONNECT_DELAY_MS = 1000;
/** How long a replica with a late response may take to respond to a PING. */
const PING_TIMEOUT_MS = 500;

/** Options that all replicas share. */
export interface ReplicaOptions extends Keepalive {
  readonly clock: Clock;
  readonly tls: Tls | undefined;
  /** Called when the replica becomes available or unavailable. */
  readonly changed: (replica: Replica) => void;
}

/** One address of the service. Maintains one connection to it, and replaces it when it ends. */
export class Replica {
  readonly #to: Destination;
  readonly #options: ReplicaOptions;
  readonly #retired = new AbortController();
  #connection: Connection | undefined;
  #failure: Error | undefined;
  #checkPending = false;

  constructor(to: Destination, options: ReplicaOptions) {
    this.#to = to;
    this.#options = options;
    void this.#run();
  }

  /** The connection, if it can be used. */
  get connection(): Connection | undefined {
    return this.#connection?.isUnusable ? undefined : this.#connection;
  }

  /** Why the last connection attempt failed; `undefined` while connected or connecting. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Whether a response is late and the replica has not responded to a PING yet. */
  get checkPending(): boolean {
    return this.#checkPending;
  }

  get endpoint(): Destination["endpoint"] {
    return this.#to.endpoint;
  }

  get address(): string {
    return this.#to.address;
  }

  /** Starts a liveness check because a response is late. Until it passes, other replicas are preferred. */
  async checkLiveness(): Promise<void> {
    if (this.#checkPending) return;
    this.#checkPending = true;
    await this.ping();
    this.#checkPending = false;
  }

  /** Checks whether the replica responds. If not, closes the connection and fails its calls. */
  async ping(): Promise<void> {
    const connection = this.connection;
    if (
      connection === undefined ||
      (await connection.respondsToPing(PING_TIMEOUT_MS)) ||
      connection.isUnusable
    )
      return;
    connection.destroy(`no data within ${PING_TIMEOUT_MS} ms after a PING`);
  }

  /** Makes no more connections. Calls in flight complete first. */
  retire(): void {
    this.#retired.abort(new Error("the client is closed"));
    this.#connection?.close();
  }

  async #run(): Promise<void> {
    const { clock, changed } = this.#options;
    const { signal } = this.#retired;
    while (!signal.aborted) {
      const began = clock.monotonic();
      try {
        this.#connection = await this.#open();
        this.#failure = undefined;
        changed(this);
        await this.#connection.leaving;
        // Calls in flight on it complete first.
        this.#connection.close();
      } catch (error) {
        this.#failure = error as Error;
      }
      this.#connection = undefined;
      if (signal.aborted) return;
      changed(this);
      const pause = RECONNECT_DELAY_MS - (this.#failure === undefined ? clock.monotonic() - began : 0);
      if (pause > 0) await sleep(clock, pause, signal);
    }
  }

  async #open(): Promise<Connection> {
    const { clock, tls } = this.#options;
    const retired = this.#retired.signal;
    const given = new AbortController();
    const { signal } = given;
    const giveUp = (): void => given.abort(retired.reason);
    const cancel = clock.after(CONNECT_TIMEOUT_MS, () => {
      given.abort(new Error(`no connection within ${CONNECT_TIMEOUT_MS / 1000} s`));
    });
    retired.addEventListener("abort", giveUp, { once: true });
    try {
      const socket = await openSocket(this.#to, tls, signal);
      const connection = await Connection.open(socket, this.#to.endpoint, this.#options, signal);
      if (retired.aborted) connection.close();
      return connection;
    } finally {
      cancel();
      retired.removeEventListener("abort", giveUp);
    }
  }
}
