import { type ClientHttp2Session, connect, constants } from "node:http2";
import type { Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Clock, sleep } from "../clock.js";
import type { Endpoint } from "./endpoint.js";

/** Larger than any answer of the service: a thousand decisions, or a page of a listing. */
const MAX_RECEIVED_BYTES = 16 * 1024 * 1024;

/** How a silent connection is kept. */
export interface Keepalive {
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** One HTTP/2 connection that has been answered, and gRPC on it. */
export class Connection {
  /** Makes calls. */
  readonly transport: Transport;
  /** Resolves when there can be no new calls: the other side goes away, or the connection is lost. */
  readonly leaving: Promise<void>;
  readonly #session: ClientHttp2Session;
  readonly #socket: Socket;
  readonly #clock: Clock;
  #why = "the other side closed it";

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
    // Without an error, calls under way would not be told.
    const end = (error: Error): void => session.destroy(error, constants.NGHTTP2_CANCEL);
    const failed = (error: Error): void => {
      this.#why = error.message;
      end(error);
    };
    session.on("error", failed);
    socket.on("error", failed);
    socket.once("close", () => end(new Error(this.#why)));
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

  /** Speaks HTTP/2 on a connection, and waits until the other side does too. */
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
    // A socket's error does not always reach the session: a TLS alert after the handshake does not.
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
      const closed = (): void => failed(new Error("the other side does not speak HTTP/2"));
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

  /** Whether there can be no new calls on it. */
  get over(): boolean {
    return this.#session.closed || this.#session.destroyed || this.#socket.destroyed;
  }

  /** Why it ended. */
  get why(): string {
    return this.#why;
  }

  /** Asks for a sign of life, and says whether anything at all came within so many milliseconds. */
  async alive(withinMs: number): Promise<boolean> {
    const before = this.#socket.bytesRead;
    const heard = new AbortController();
    try {
      this.#session.ping(() => heard.abort());
    } catch {
      return false;
    }
    await sleep(this.#clock, withinMs, heard.signal);
    // What came while this process was busy is read before it counts as missing.
    for (let turn = 0; turn < 2 && !heard.signal.aborted; turn += 1) await setImmediate();
    return !this.over && this.#socket.bytesRead > before;
  }

  /** Begins no new calls, and ends with the last one under way. */
  close(): void {
    if (!this.#session.destroyed) this.#session.close();
  }

  /** Ends it and all calls on it. */
  destroy(why: string): void {
    this.#why = why;
    this.#session.destroy(new Error(why), constants.NGHTTP2_CANCEL);
    this.#socket.destroy();
  }

  /** Pings when nothing was heard for an interval. By the machine's clock: it is about the machine's connection. */
  #keepAlive({ keepaliveIntervalMs, keepaliveTimeoutMs }: Keepalive): void {
    let heard = this.#socket.bytesRead;
    let unanswered: NodeJS.Timeout | undefined;
    const timer = setInterval(() => {
      const silent = this.#socket.bytesRead === heard;
      heard = this.#socket.bytesRead;
      if (!silent || unanswered !== undefined || this.over) return;
      const lost = (): void => this.destroy(`a ping was not answered in ${keepaliveTimeoutMs} ms`);
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
