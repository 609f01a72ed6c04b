import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { type Rejection, send } from "../http/rejection.js";

/** Changes the body of a response. */
export interface BodyTransform {
  /** Whether nothing is sent before the end. */
  readonly holdsAll: boolean;
  /** Returns the bytes to send now. */
  write(bytes: Buffer): Buffer;
  /** Returns the last bytes. */
  end(): Buffer;
}

/** What the gate does with a response of the application. */
export interface ResponsePlan {
  /**
   * Called before the head is sent, when its status and headers are known. May change headers. A rejection is sent in
   * place of the response. Must not reject.
   */
  head(): Promise<Rejection<object> | undefined> | undefined;
  /** Called when the head is decided. Returns how the body is changed. */
  body(): BodyTransform | undefined;
}

type Callback = (error?: Error | null) => void;
type Chunk = string | Uint8Array;
type Write = (chunk: Chunk, encoding: BufferEncoding, callback?: Callback) => boolean;
type End = (chunk?: Chunk, encoding?: BufferEncoding, callback?: () => void) => unknown;

const ENTITY_HEADERS = ["content-type", "content-length", "content-encoding", "etag", "mcp-session-id"];

/** The application's side of a response, between the application and the client. */
export class GatedResponse {
  readonly #response: ServerResponse;
  readonly #plan: ResponsePlan;
  readonly #write: Write;
  readonly #end: End;
  readonly #writeHead: (status: number, ...rest: unknown[]) => ServerResponse;
  readonly #flushHeaders: () => void;
  /** What the application wrote while the head was undecided. */
  readonly #held: (() => void)[] = [];
  #state: "open" | "held" | "passing" | "discarding" = "open";
  #transform: BodyTransform | undefined;
  #tail = "";

  constructor(response: ServerResponse, plan: ResponsePlan) {
    this.#response = response;
    this.#plan = plan;
    this.#write = response.write.bind(response) as Write;
    this.#end = response.end.bind(response) as End;
    this.#writeHead = response.writeHead.bind(response) as never;
    this.#flushHeaders = response.flushHeaders.bind(response);
    response.writeHead = (status: number, ...rest: unknown[]) => this.#onWriteHead(status, rest);
    response.flushHeaders = () => this.#onFlushHeaders();
    response.write = ((chunk: Chunk, ...rest: unknown[]) => this.#onWrite(chunk, ...options(rest))) as never;
    response.end = ((...given: unknown[]) => this.#onEnd(given)) as never;
  }

  /** Ends the response early. `last` is sent if nothing is missing of what was sent before. */
  finish(last: string): void {
    if (this.#state !== "passing" || this.#response.writableEnded) return;
    this.#state = "discarding";
    const isWhole = this.#tail === "" || /(\n\n|\r\r|\r\n\r\n)$/.test(this.#tail);
    this.#end(isWhole ? last : "");
  }

  /** The head is kept in the response until it is sent, so that the plan can read and change it. */
  #onWriteHead(status: number, rest: readonly unknown[]): ServerResponse {
    const response = this.#response;
    if (this.#state === "held" || response.headersSent) return response;
    // Node.js calls this too, when it sends the head.
    if (this.#state !== "open") return this.#writeHead(status, ...rest);
    response.statusCode = status;
    if (typeof rest[0] === "string") response.statusMessage = rest[0];
    for (const [name, value] of pairs(rest.find((one) => typeof one === "object") as Headers))
      if (value !== undefined) response.setHeader(name, value);
    return response;
  }

  #onFlushHeaders(): void {
    this.#begin();
    if (this.#state === "held") this.#held.push(() => this.#onFlushHeaders());
    else if (this.#state === "passing" && !this.#transform?.holdsAll) this.#flushHeaders();
  }

  #onWrite(chunk: Chunk, encoding: BufferEncoding, callback: Callback | undefined): boolean {
    this.#begin();
    if (this.#state === "held") {
      this.#held.push(() => void this.#onWrite(chunk, encoding, callback));
      return false;
    }
    if (this.#state === "discarding") {
      callback?.();
      return true;
    }
    if (this.#transform === undefined) {
      this.#tail = (this.#tail + lastOf(chunk)).slice(-4);
      return this.#write(chunk, encoding, callback);
    }
    const bytes = this.#transform.write(buffer(chunk, encoding));
    if (bytes.length > 0) return this.#write(bytes, "utf8", callback);
    callback?.();
    return true;
  }

  #onEnd(given: readonly unknown[]): ServerResponse {
    const [chunk, ...rest] = typeof given[0] === "function" ? [undefined, ...given] : given;
    const [encoding, callback] = options(rest);
    this.#begin();
    if (this.#state === "held") this.#held.push(() => void this.#onEnd(given));
    else if (this.#state === "discarding") (callback as (() => void) | undefined)?.();
    else this.#pass(chunk as Chunk | undefined, encoding, callback as (() => void) | undefined);
    return this.#response;
  }

  #pass(chunk: Chunk | undefined, encoding: BufferEncoding, callback: (() => void) | undefined): void {
    const transform = this.#transform;
    if (transform === undefined) {
      this.#end(chunk, encoding, callback);
      return;
    }
    const first = chunk == null ? Buffer.alloc(0) : transform.write(buffer(chunk, encoding));
    const bytes = Buffer.concat([first, transform.end()]);
    if (transform.holdsAll) this.#response.setHeader("content-length", bytes.length);
    this.#end(bytes, "utf8", callback);
  }

  #begin(): void {
    if (this.#state !== "open") return;
    const pending = this.#plan.head();
    if (pending === undefined) {
      this.#release();
      return;
    }
    this.#state = "held";
    void pending.then((rejection) => (rejection === undefined ? this.#release() : this.#replace(rejection)));
  }

  #release(): void {
    this.#state = "passing";
    this.#transform = this.#plan.body();
    const held = this.#held.splice(0);
    for (const write of held) write();
    if (held.length > 0) this.#response.emit("drain");
  }

  #replace(rejection: Rejection<object>): void {
    for (const name of ENTITY_HEADERS) this.#response.removeHeader(name);
    this.#response.statusMessage = "";
    this.#state = "passing";
    send(this.#response, rejection);
    this.#state = "discarding";
    this.#held.length = 0;
    this.#response.emit("drain");
  }
}

type Headers = OutgoingHttpHeaders | OutgoingHttpHeader[] | undefined;

/** The headers of `writeHead`: an object, or alternating names and values, in which a name may occur several times. */
function pairs(headers: Headers): (readonly [string, OutgoingHttpHeader | undefined])[] {
  if (headers === undefined) return [];
  if (!Array.isArray(headers)) return Object.entries(headers);
  const values = new Map<string, string[]>();
  for (let at = 0; at < headers.length; at += 2) {
    const name = String(headers[at]).toLowerCase();
    values.set(name, [...(values.get(name) ?? []), ...[headers[at + 1] ?? []].flat().map(String)]);
  }
  return [...values].map(([name, all]) => [name, all.length === 1 ? all[0] : all]);
}

function options(rest: readonly unknown[]): [BufferEncoding, Callback | undefined] {
  const encoding = rest.find((one) => typeof one === "string") as BufferEncoding | undefined;
  return [encoding ?? "utf8", rest.find((one) => typeof one === "function") as Callback | undefined];
}

function buffer(chunk: Chunk, encoding: BufferEncoding): Buffer {
  return typeof chunk === "string" ? Buffer.from(chunk, encoding) : Buffer.from(chunk);
}

/** The last characters of a chunk, as far as line ends are concerned. */
function lastOf(chunk: Chunk): string {
  return typeof chunk === "string" ? chunk.slice(-4) : Buffer.from(chunk.slice(-4)).toString("latin1");
}
