import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ServerWritableStream } from "@grpc/grpc-js";
import {
  InvalidationScope,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../src/gen/tenantauth/v1/watch_pb.js";

/** The fake's side of one watch stream. */
export class FakeWatch {
  readonly #stream: ServerWritableStream<WatchRequest, WatchResponse>;

  constructor(stream: ServerWritableStream<WatchRequest, WatchResponse>) {
    this.#stream = stream;
    // A client that disconnects is not an error here.
    stream.on("error", () => undefined);
  }

  get resumeAfter(): bigint {
    return this.#stream.request.resumeAfterRevision;
  }

  get cancelled(): boolean {
    return this.#stream.cancelled;
  }

  heartbeat(revision: bigint): void {
    this.#send({ revision, event: { case: "heartbeat", value: {} } });
  }

  invalidate(scope: InvalidationScope, id: string, revision: bigint): void {
    this.#send({ revision, event: { case: "invalidation", value: { scope, id } } });
  }

  startOver(revision: bigint): void {
    this.#send({ revision, event: { case: "startOver", value: { reason: "a test" } } });
  }

  /** An event that this version does not know. */
  unheardOf(revision: bigint): void {
    this.#send({ revision });
  }

  fail(error: Error): void {
    this.#stream.emit("error", error);
  }

  end(): void {
    this.#stream.end();
  }

  #send(message: MessageInitShape<typeof WatchResponseSchema>): void {
    this.#stream.write(create(WatchResponseSchema, message));
  }
}

export { InvalidationScope };
