import {
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type Client as GrpcClient,
  Metadata,
  type ServiceError,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import type { TenantAuthError } from "../error.js";
import { errorFromStatus } from "./details.js";

/** What goes along with a message. */
export interface AttemptOptions {
  readonly requestId: string;
  /** Value of the `authorization` header. */
  readonly authorization?: string | undefined;
  /** How long this attempt may take; absent: as long as it wants. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

const REQUEST_ID = "x-request-id";
const STATUS_DETAILS = "grpc-status-details-bin";

/** Sends one message once and waits for the reply. */
export function unary<I extends DescMessage, O extends DescMessage>(
  client: GrpcClient,
  method: DescMethodUnary<I, O>,
  message: MessageShape<I>,
  options: AttemptOptions,
): Promise<MessageShape<O>> {
  const { signal, requestId } = options;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const cancel = (): void => call.cancel();
    const call = client.makeUnaryRequest(
      path(method),
      serializer(method.input),
      deserializer(method.output),
      message,
      metadata(options),
      callOptions(options),
      (error, reply) => {
        signal?.removeEventListener("abort", cancel);
        if (error !== null) reject(signal?.aborted ? signal.reason : failure(error, requestId));
        else resolve(reply as MessageShape<O>);
      },
    );
    signal?.addEventListener("abort", cancel, { once: true });
  });
}

/** Sends one message and reads what comes, until the end or an abort, which ends it without an error. */
export async function* serverStreaming<I extends DescMessage, O extends DescMessage>(
  client: GrpcClient,
  method: DescMethodStreaming<I, O>,
  message: MessageShape<I>,
  options: AttemptOptions,
): AsyncGenerator<MessageShape<O>, void, undefined> {
  const { signal, requestId } = options;
  if (signal?.aborted) return;
  const call = client.makeServerStreamRequest(
    path(method),
    serializer(method.input),
    deserializer(method.output),
    message,
    metadata(options),
    callOptions(options),
  );
  const cancel = (): void => call.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for await (const reply of call) yield reply as MessageShape<O>;
  } catch (error) {
    if (!signal?.aborted) throw failure(error as ServiceError, requestId);
  } finally {
    signal?.removeEventListener("abort", cancel);
    call.cancel();
  }
}

function path(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function serializer<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => Buffer.from(toBinary(schema, message));
}

function deserializer<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}

function metadata({ requestId, authorization }: AttemptOptions): Metadata {
  const headers = new Metadata();
  headers.set(REQUEST_ID, requestId);
  if (authorization !== undefined) headers.set("authorization", authorization);
  return headers;
}

function callOptions({ timeoutMs }: AttemptOptions): { deadline?: number } {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** Only the status is taken over: grpc-js's error holds the metadata too, and somebody may print it. */
function failure(error: Partial<StatusObject>, requestId: string): TenantAuthError {
  const encoded = error.metadata?.get(STATUS_DETAILS)[0];
  const details = encoded instanceof Uint8Array ? encoded : undefined;
  return errorFromStatus(error.code ?? status.UNKNOWN, error.details ?? "no status", details, requestId);
}
