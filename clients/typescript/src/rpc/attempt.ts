import type {
  DescMessage,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { deadlineExceeded, TenantAuthError } from "../error.js";
import type { Connection } from "../net/connection.js";
import type { Replica } from "../net/replica.js";
import { errorFromStatus } from "./details.js";

/** Metadata of an attempt. */
export interface AttemptOptions {
  readonly requestId: string;
  readonly userAgent: string;
  /** Value of the `authorization` header. */
  readonly authorization?: string | undefined;
  /** Timeout of this attempt; absent: none. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** Errors of calls whose connection ended before a response. */
const LOST = new WeakSet<TenantAuthError>();

/** Whether the connection was lost before a response arrived. */
export function connectionLost(error: TenantAuthError): boolean {
  return LOST.has(error);
}

/** Errors of calls that no replica has processed. */
const UNSENT = new WeakSet<TenantAuthError>();

/** Whether it is certain that no replica has processed the call. */
export function neverSent(error: TenantAuthError): boolean {
  return UNSENT.has(error);
}

/** Makes one attempt of a unary call. */
export async function unary<I extends DescMessage, O extends DescMessage>(
  replica: Replica,
  method: DescMethodUnary<I, O>,
  message: MessageShape<I>,
  options: AttemptOptions,
): Promise<MessageShape<O>> {
  const { signal, timeoutMs = 0, requestId } = options;
  signal?.throwIfAborted();
  const connection = replica.connection;
  if (connection === undefined) throw unsent(connectionLostError("closed", requestId));
  try {
    const init = message as MessageInitShape<I>;
    const whole = Math.max(1, Math.ceil(timeoutMs));
    const reply = await connection.transport.unary(method, signal, whole, headers(options), init);
    return reply.message as MessageShape<O>;
  } catch (error) {
    throw signal?.aborted ? signal.reason : failure(error, connection, requestId);
  }
}

/** Makes a server-streaming call. An abort ends it without an error. */
export async function* serverStreaming<I extends DescMessage, O extends DescMessage>(
  replica: Replica,
  method: DescMethodStreaming<I, O>,
  message: MessageShape<I>,
  options: AttemptOptions,
): AsyncGenerator<MessageShape<O>, void, undefined> {
  const { signal, requestId } = options;
  if (signal?.aborted) return;
  const connection = replica.connection;
  if (connection === undefined) throw connectionLostError("closed", requestId);
  const left = new AbortController();
  const ended = signal === undefined ? left.signal : AbortSignal.any([signal, left.signal]);
  try {
    const input = once(message as MessageInitShape<I>);
    const stream = await connection.transport.stream(method, ended, undefined, headers(options), input);
    for await (const reply of stream.message) yield reply as MessageShape<O>;
  } catch (error) {
    if (!ended.aborted) throw failure(error, connection, requestId);
  } finally {
    left.abort();
  }
}

async function* once<T>(message: T): AsyncGenerator<T, void, undefined> {
  yield message;
}

function headers({ requestId, authorization, userAgent }: AttemptOptions): Record<string, string> {
  return {
    "x-request-id": requestId,
    "user-agent": userAgent,
    ...(authorization === undefined ? {} : { authorization }),
  };
}

/** Only the content of the status is used: the library's error also contains headers, which might be printed. */
function failure(error: unknown, connection: Connection, requestId: string): TenantAuthError {
  const { code, rawMessage, metadata, details } = ConnectError.from(error);
  if (metadata.has("grpc-status")) return errorFromStatus(code, rawMessage, details, requestId);
  if (code === Code.DeadlineExceeded) return deadlineExceeded(requestId);
  // The replica refused the stream before it processed anything of it (RFC 9113, section 8.7).
  if (/REFUSED_STREAM/.test(rawMessage)) return unsent(connectionLostError(rawMessage, requestId));
  if (connection.isUnusable) return connectionLostError(connection.endReason, requestId);
  // The replica shuts down and has not processed the call, or the stream could not be opened.
  if (code === Code.Aborted) return connectionLostError(rawMessage, requestId);
  return errorFromStatus(code, rawMessage, [], requestId);
}

function connectionLostError(why: string, requestId: string): TenantAuthError {
  const error = new TenantAuthError("UNAVAILABLE", `connection lost: ${why}`, { requestId });
  LOST.add(error);
  return error;
}

function unsent(error: TenantAuthError): TenantAuthError {
  UNSENT.add(error);
  return error;
}
