import { type ClientHttp2Session, connect, constants } from "node:http2";
import type { Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Clock, sleep } from "../clock.js";
import type { Endpoint } from "./endpoint.js";

/** Larger than any response of the service: 1,000 validations, or a page of a list. */
const MAX_RECEIVED_BYTES = 16 * 1024 * 1024;

/** Keepalive options of a connection. */
export interface Keepalive {
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** One established HTTP/2 connection, with gRPC on it. */
export class Connection {
  /** Makes calls. */
  readonly transport: Transport;
  /** Resolves when no new calls are possible: the server shuts down, or the connection is lost. */
  readonly leaving: Promise<void>;
  readonly #session: ClientHttp2Session;
  readonly #socket: Socket;
  readonly #clock: Clock;
  #endReason = "closed by the server";

  private constructor(session: ClientHttp2Session, socket: Socket, endpoint: Endpoint, clock: Clock) {
    this.#session = session;
    this.#socket = socket;
    this.#clock = clock;
    const baseUrl = url(endpoint);
    this.leaving = new Promise((resolve) => {
      session.once("goaway", () => resolve());
      session.once("close", resolve);
      socket.once("close", resolve);
    });
    // Without an error, calls in flight would not fail.
    const end = (error: Error): void => session.destroy(error, constants.NGHTTP2_CANCEL);
    const failed = (error: Error): void => {
      this.#endReason = error.message;
      end(error);
    };
    session.on("error", failed);
    socket.on("error", failed);
    socket.once("close", () => end(new Error(this.#endReason)));
    this.transport = createGrpcTransport({
      baseUrl,
      readMaxBytes: MAX_RECEIVED_BYTES,
      acceptCompression: [],
      sessionManager: {
        authority: new URL(baseUrl).origin,
        request: async (method, path, headers) =>
          session.request({ ...headers, ":method": method, ":path": path, ":authority": endpoint.authority }),
        notifyResponseByteRead: () => undefined,
      },
    });
  }

  /** Establishes HTTP/2 on a socket, and waits for the server's settings. */
  static async open(
    socket: Socket,
    endpoint: Endpoint,
    options: Keepalive & { readonly clock: Clock },
    signal: AbortSignal,
  ): Promise<Connection> {
    const session = connect(url(endpoint), {
      createConnection: () => socket,
      settings: { enablePush: false },
    });
    // Socket errors do not always reach the session, for example a TLS alert after the handshake.
    await new Promise<void>((resolve, reject) => {
      const over = (): void => {
        signal.removeEventListener("abort", aborted);
        session.removeListener("close", closed);
        socket.removeListener("error", failed);
        socket.removeListener("close", closed);
      };
      const failed = (error: Error): void => {
        over();
        session.destroy();
        socket.destroy();
        reject(error);
      };
      const closed = (): void => failed(new Error("the server does not support HTTP/2"));
      const aborted = (): void => failed(signal.reason as Error);
      session.on("error", failed);
      session.once("close", closed);
      socket.once("error", failed);
      socket.once("close", closed);
      session.once("remoteSettings", () => {
        over();
        resolve();
      });
      if (signal.aborted) aborted();
      else signal.addEventListener("abort", aborted, { once: true });
    });
    const connection = new Connection(session, socket, endpoint, options.clock);
    connection.#keepAlive(options);
    return connection;
  }

  /** Whether no new calls are possible. */
  get isUnusable(): boolean {
    return this.#session.closed || this.#session.destroyed || this.#socket.destroyed;
  }

  /** Why the connection ended. */
  get endReason(): string {
    return this.#endReason;
  }

  /** Sends a PING, and returns whether any data arrived within the timeout. */
  async respondsToPing(withinMs: number): Promise<boolean> {
    const before = this.#socket.bytesRead;
    const answered = new AbortController();
    try {
      this.#session.ping(() => answered.abort());
    } catch {
      return false;
    }
    await sleep(this.#clock, withinMs, answered.signal);
    // Data that arrived while this process was busy is read before it counts as missing.
    for (let turn = 0; turn < 2 && !answered.signal.aborted; turn += 1) await setImmediate();
    return !this.isUnusable && this.#socket.bytesRead > before;
  }

  /** Rejects new calls, and closes the connection after the last call in flight. */
  close(): void {
    if (!this.#session.destroyed) this.#session.close();
  }

  /** Closes the connection and fails all calls on it. */
  destroy(why: string): void {
    this.#endReason = why;
    this.#session.destroy(new Error(why), constants.NGHTTP2_CANCEL);
    this.#socket.destroy();
  }

  /** Sends a PING if no data arrived for an interval. Uses the system clock, because it concerns a real connection. */
  #keepAlive({ keepaliveIntervalMs, keepaliveTimeoutMs }: Keepalive): void {
    let bytesRead = this.#socket.bytesRead;
    let unanswered: NodeJS.Timeout | undefined;
    const timer = setInterval(() => {
      const silent = this.#socket.bytesRead === bytesRead;
      bytesRead = this.#socket.bytesRead;
      if (!silent || unanswered !== undefined || this.isUnusable) return;
      const lost = (): void => this.destroy(`no response to a PING within ${keepaliveTimeoutMs} ms`);
      unanswered = setTimeout(lost, keepaliveTimeoutMs).unref();
      this.#session.ping(() => {
        clearTimeout(unanswered);
        unanswered = undefined;
      });
    }, keepaliveIntervalMs).unref();
    this.#session.once("close", () => {
      clearInterval(timer);
      clearTimeout(unanswered);
    });
  }
}

function url({ authority, secure }: Endpoint): string {
  return `${secure ? "https" : "http"}://${authority}`;
}
