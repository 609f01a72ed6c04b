import { ServerResponse } from "node:http";
import type { Principal } from "../principal.js";
import { credentialOf } from "./credential.js";
import type { Guards } from "./guards.js";
import { guardIterable, guardReadable, type StartGuard } from "./pulled.js";
import { type ClosableSocket, guardResponse, guardSocket } from "./pushed.js";
import type { StreamEnd } from "./stream-end.js";
import { type GuardOptions, StreamGuard } from "./stream-guard.js";

/** Watches over a stream. */
export interface Guard {
  /** Stops watching. It is done by itself when the stream ends, except for a guard with a function. */
  release(): void;
}

/** Guards a stream; see `Client.guard`. */
export interface GuardStream {
  <T>(principal: Principal, stream: ReadableStream<T>, options?: GuardOptions): ReadableStream<T>;
  <T>(principal: Principal, stream: AsyncIterable<T>, options?: GuardOptions): AsyncIterableIterator<T>;
  (principal: Principal, stream: ServerResponse | ClosableSocket, options?: GuardOptions): Guard;
  /** The function is called once, when the stream must end. Release the guard when the stream has ended. */
  (principal: Principal, onEnd: (end: StreamEnd) => void, options?: GuardOptions): Guard;
}

type Stream =
  | ReadableStream<unknown>
  | AsyncIterable<unknown>
  | ServerResponse
  | ClosableSocket
  | ((end: StreamEnd) => void);

/** Returns the guard function of a client. */
export function guardStream(guards: () => Guards): GuardStream {
  const guard = (principal: Principal, stream: Stream, options?: GuardOptions): unknown => {
    const all = guards();
    // Iterables start their guard later.
    credentialOf(principal);
    const start: StartGuard = (onEnd) => new StreamGuard(all, principal, onEnd, options);
    if (typeof stream === "function") return start(stream);
    if (stream instanceof ServerResponse) return guardResponse(stream, start);
    if (stream instanceof ReadableStream) return guardReadable(stream, start);
    if (typeof (stream as AsyncIterable<unknown> | null)?.[Symbol.asyncIterator] === "function")
      return guardIterable(stream as AsyncIterable<unknown>, start);
    if (typeof (stream as ClosableSocket | null)?.close === "function")
      return guardSocket(stream as ClosableSocket, all.clock, start);
    throw new TypeError(
      "stream must be an async iterable, a ReadableStream, a ServerResponse (in Fastify, reply.raw), a WebSocket, or a function",
    );
  };
  return guard as GuardStream;
}
