import { type Clock, sleep } from "../clock.js";
import { Connection, type Keepalive } from "./connection.js";
import { type Destination, openSocket } from "./socket.js";
import type { Tls } from "./tls.js";

/** How long a connection may take to be made. */
const CONNECT_TIMEOUT_MS = 5000;
/** The pause before an address that refused is tried again. */
const RECONNECT_PAUSE_MS = 1000;
/** How long a replica that left a call unanswered may stay silent. */
const SIGN_OF_LIFE_MS = 500;

/** What all replicas share. */
export interface ReplicaOptions extends Keepalive {
  readonly clock: Clock;
  readonly tls: Tls | undefined;
  /** Told of each change of what can be called. */
  readonly changed: (replica: Replica) => void;
}

/** One address of the service: keeps one connection to it, and makes a new one whenever that ends. */
export class Replica {
  readonly #to: Destination;
  readonly #options: ReplicaOptions;
  readonly #retired = new AbortController();
  #connection: Connection | undefined;
  #failure: Error | undefined;
  #suspected = false;

  constructor(to: Destination, options: ReplicaOptions) {
    this.#to = to;
    this.#options = options;
    void this.#run();
  }

  /** The connection, if it can be used. */
  get connection(): Connection | undefined {
    return this.#connection?.over ? undefined : this.#connection;
  }

  /** Why the last connection could not be made; `undefined` while one is there or may come to be. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Whether it left a call unanswered and has shown no sign of life since. */
  get suspected(): boolean {
    return this.#suspected;
  }

  get endpoint(): Destination["endpoint"] {
    return this.#to.endpoint;
  }

  get address(): string {
    return this.#to.address;
  }

  /** A call stays unanswered: until the other side has shown to be alive, others are asked if there are any. */
  async suspect(): Promise<void> {
    if (this.#suspected) return;
    this.#suspected = true;
    await this.check();
    this.#suspected = false;
  }

  /** Asks whether the other side is alive. If not, the connection and its calls are ended. */
  async check(): Promise<void> {
    const connection = this.connection;
    if (connection === undefined || (await connection.alive(SIGN_OF_LIFE_MS)) || connection.over) return;
    connection.destroy(`there was no sign of life in ${SIGN_OF_LIFE_MS} ms`);
  }

  /** Makes no more connections; calls under way end first. */
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
        // What is under way on it ends first.
        this.#connection.close();
      } catch (error) {
        this.#failure = error as Error;
      }
      this.#connection = undefined;
      if (signal.aborted) return;
      changed(this);
      const pause = RECONNECT_PAUSE_MS - (this.#failure === undefined ? clock.monotonic() - began : 0);
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
