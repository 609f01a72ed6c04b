import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.js";
import type { StartGuard } from "./pulled.js";

/** A WebSocket, such as that of the package `ws`. */
export interface ClosableSocket {
  close(code: number, reason: string): void;
  /** Ends the connection without waiting for the other side. */
  terminate?(): void;
  on?(event: "close", listener: () => void): unknown;
  addEventListener?(event: "close", listener: () => void): unknown;
}

/** The peer has this time to answer to the closing of a WebSocket. */
const CLOSING_MS = 1000;
const POLICY_VIOLATION = 1008;
const TRY_AGAIN_LATER = 1013;

/**
 * Guards a response. An event stream ends with an event `end`; a response with another type in its headers, or without a
 * head, breaks off. The application must write whole events.
 */
export function guardResponse(response: ServerResponse, start: StartGuard): { release(): void } {
  const guard = start(({ code, detail }) => {
    if (response.writableEnded || response.destroyed) return;
    // The application may write until it notices that the response is closed.
    response.on("error", () => undefined);
    // Headers that were only passed to `writeHead` cannot be read.
    const type = String(response.getHeader("content-type") ?? "text/event-stream");
    if (response.headersSent && /^text\/event-stream\b/i.test(type))
      response.end(`event: end\ndata: ${JSON.stringify({ code, detail })}\n\n`);
    else response.destroy();
  });
  if (response.closed) guard.release();
  else response.once("close", () => guard.release());
  return guard;
}

/** Guards a WebSocket. It is closed with the code as its reason. */
export function guardSocket(socket: ClosableSocket, clock: Clock, start: StartGuard): { release(): void } {
  let cancel = (): void => undefined;
  const guard = start(({ code }) => {
    socket.close(code === "UNDECIDED" ? TRY_AGAIN_LATER : POLICY_VIOLATION, code);
    cancel = clock.after(CLOSING_MS, () => socket.terminate?.());
  });
  const closed = (): void => {
    cancel();
    guard.release();
  };
  if (socket.on !== undefined) socket.on("close", closed);
  else socket.addEventListener?.("close", closed);
  return guard;
}
