import type { IncomingMessage } from "node:http";
import type { AuthInfo } from "./auth-info.js";
import { RPC, RpcRejection } from "./message.js";

/** A request with what middleware adds to it. */
export type GateRequest = IncomingMessage & {
  /** Express's original path; `url` lacks the mount path. */
  readonly originalUrl?: string;
  body?: unknown;
  rawBody?: Buffer;
  auth?: AuthInfo;
};

/** Removes headers in all representations, so that nothing behind the gate sees them. Names are in lower case. */
export function removeHeaders(request: IncomingMessage, ...names: readonly string[]): void {
  // Node.js derives both from the raw headers when they are first read, which fails after a change of these.
  const { rawHeaders, headers, headersDistinct } = request;
  for (let at = rawHeaders.length - 2; at >= 0; at -= 2)
    if (names.includes(rawHeaders[at]?.toLowerCase() ?? "")) rawHeaders.splice(at, 2);
  for (const name of names) {
    delete headers[name];
    delete headersDistinct[name];
  }
}

/** The client went away while it sent a body. Nobody waits for a response. */
export class RequestAborted extends Error {}

/** A body has more bytes than allowed. */
export class BodyTooLarge extends Error {}

/** Reads the whole body, and leaves it in the request for the application. */
export function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw new BodyTooLarge();
    const chunks: Buffer[] = [];
    let length = 0;
    const done = (): void => {
      request.off("readable", read);
      request.off("end", read);
      request.off("close", aborted);
      request.off("error", aborted);
    };
    const aborted = (): void => {
      done();
      reject(new RequestAborted());
    };
    const read = (): void => {
      for (let chunk = request.read() as Buffer | null; chunk !== null; chunk = request.read()) {
        chunks.push(chunk);
        length += chunk.length;
      }
      if (length > maxBytes) {
        done();
        reject(new BodyTooLarge());
      } else if (request.complete) {
        done();
        const body = Buffer.concat(chunks);
        // Put back before the stream notices that it has ended: it emits `end` in the next tick if it is empty.
        if (length > 0) request.unshift(body);
        resolve(body);
      }
    };
    request.on("readable", read);
    request.on("end", read);
    request.on("close", aborted);
    request.on("error", aborted);
    // The body may have been received before, so that no event follows.
    if (request.complete && request.readableLength > 0) read();
  });
}

/**
 * Gives the application exactly the body that was judged, however it reads it: as `body`, as `rawBody` (which the SDKs'
 * transports prefer to the stream), or from the stream. No second parser can read something else.
 */
export function setBody(request: GateRequest, body: unknown): void {
  const bytes = Buffer.from(serialised(body));
  request.read();
  request.unshift(bytes);
  request.body = body;
  request.rawBody = bytes;
  const { rawHeaders } = request;
  const at = rawHeaders.findIndex(
    (name, index) => index % 2 === 0 && name.toLowerCase() === "content-length",
  );
  if (at === -1) return;
  const length = String(bytes.length);
  rawHeaders[at + 1] = length;
  request.headers["content-length"] = length;
  request.headersDistinct["content-length"] = [length];
}

function serialised(body: unknown): string {
  try {
    return JSON.stringify(body);
  } catch {
    throw new RpcRejection(RPC.parseError, "The body must not be nested so deeply.");
  }
}
