import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import { InfoService } from "../../src/gen/tenantauth/v1/info_pb.js";
import { LimitService } from "../../src/gen/tenantauth/v1/limit_pb.js";
import { SessionService } from "../../src/gen/tenantauth/v1/session_pb.js";
import { UsageService } from "../../src/gen/tenantauth/v1/usage_pb.js";
import { ValidationService } from "../../src/gen/tenantauth/v1/validation_pb.js";
import { type WatchResponseSchema, WatchService } from "../../src/gen/tenantauth/v1/watch_pb.js";
import { FakeWatch } from "./fake-watch.js";

/** A call that the fake received. */
export interface Call<I extends DescMessage = DescMessage> {
  readonly method: string;
  readonly request: MessageShape<I>;
  readonly metadata: grpc.Metadata;
  readonly peer: string;
}

type Answer<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call<I>,
) => MessageInitShape<O> | Promise<MessageInitShape<O>>;

const UNARY = [ValidationService, SessionService, UsageService, InfoService, LimitService];

/** A detail of a status, and its schema. */
export type Fact = [DescMessage, Message];

/** A status to respond with, including details. */
export class Refused extends Error {
  readonly code: grpc.status;
  readonly details: string;
  readonly metadata = new grpc.Metadata();

  constructor(code: grpc.status, details: string, ...facts: readonly Fact[]) {
    super(details);
    this.code = code;
    this.details = details;
    if (facts.length === 0) return;
    const packed = facts.map(([schema, message]) => anyPack(schema, message));
    const status = create(StatusSchema, { code, message: details, details: packed });
    this.metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  }
}

/** A tenant-auth service for tests. Methods without a configured response are UNIMPLEMENTED. */
export class Fake {
  /** Every unary call, in the order of arrival. */
  readonly calls: Call[] = [];
  /** Every watch stream that was opened. */
  readonly watches: FakeWatch[] = [];
  /** Whether watch streams are enabled. */
  servesWatch = true;
  /** The error of watch streams if they are not enabled. */
  withoutWatch = grpc.status.UNIMPLEMENTED;
  readonly #answers = new Map<string, Answer<DescMessage, DescMessage>>();
  readonly #server = new grpc.Server();
  #port = 0;

  private constructor() {
    for (const service of UNARY) this.#server.addService(this.#unary(service), this.#handlers(service));
    const watch = WatchService.method.watch;
    this.#server.addService(
      { watch: { ...wire(watch), requestStream: false, responseStream: true } },
      {
        watch: (
          stream: grpc.ServerWritableStream<
            MessageShape<typeof watch.input>,
            MessageShape<typeof WatchResponseSchema>
          >,
        ) => this.#watch(stream),
      },
    );
  }

  static async start(port = 0, credentials = grpc.ServerCredentials.createInsecure()): Promise<Fake> {
    const fake = new Fake();
    fake.#port = await new Promise((resolve, reject) => {
      const bound = (error: Error | null, number: number): void => (error ? reject(error) : resolve(number));
      fake.#server.bindAsync(`127.0.0.1:${port}`, credentials, bound);
    });
    return fake;
  }

  get port(): number {
    return this.#port;
  }

  get endpoint(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Sets the response of a method from now on. */
  answer<I extends DescMessage, O extends DescMessage>(
    method: { readonly name: string; readonly input: I; readonly output: O },
    answer: Answer<I, O>,
  ): void {
    this.#answers.set(method.name, answer as unknown as Answer<DescMessage, DescMessage>);
  }

  /** Makes a method UNIMPLEMENTED again. */
  forget(method: { readonly name: string }): void {
    this.#answers.delete(method.name);
  }

  /** The calls of one method. */
  callsOf<I extends DescMessage>(method: { readonly name: string; readonly input: I }): Call<I>[] {
    return this.calls.filter((call) => call.method === method.name) as Call<I>[];
  }

  close(): void {
    this.#server.forceShutdown();
  }

  #unary(service: DescService): grpc.ServiceDefinition {
    const unary = service.methods.filter((method) => method.methodKind === "unary");
    const definitions = unary.map((method) => [
      method.name,
      { ...wire(method), requestStream: false, responseStream: false },
    ]);
    return Object.fromEntries(definitions) as grpc.ServiceDefinition;
  }

  #handlers(service: DescService): grpc.UntypedServiceImplementation {
    const handler = (method: DescMethod): grpc.handleUnaryCall<Message, Message> => {
      return (call, reply) => {
        const { request, metadata } = call;
        const seen: Call = { method: method.name, request, metadata, peer: call.getPeer() };
        this.calls.push(seen);
        const answer = this.#answers.get(method.name);
        const unserved = new Refused(grpc.status.UNIMPLEMENTED, "not served");
        const answering =
          answer === undefined
            ? Promise.reject(unserved)
            : Promise.resolve().then(() => answer(request, seen));
        answering.then((init) => reply(null, create(method.output, init)), reply);
      };
    };
    return Object.fromEntries(
      service.methods.map((method) => [method.name, handler(method)]),
    ) as grpc.UntypedServiceImplementation;
  }

  #watch(
    stream: grpc.ServerWritableStream<
      MessageShape<typeof WatchService.method.watch.input>,
      MessageShape<typeof WatchResponseSchema>
    >,
  ): void {
    const watch = new FakeWatch(stream);
    this.watches.push(watch);
    if (!this.servesWatch) watch.fail(new Refused(this.withoutWatch, "not served"));
  }
}

function wire(
  method: DescMethod,
): Pick<
  grpc.MethodDefinition<Message, Message>,
  "path" | "requestSerialize" | "requestDeserialize" | "responseSerialize" | "responseDeserialize"
> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestSerialize: (message) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}
