import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { printable } from "../printable.js";
import { type CallOptions, isRead, type RpcClient } from "./rpc-client.js";

/** The RPCs of a service, with the messages of the contract. */
export type RawService<S extends DescService> =
  S extends GenService<infer Methods extends GenServiceMethods>
    ? { readonly [Name in keyof Methods]: RawMethod<Methods[Name]> }
    : never;

type ServerStreaming = DescMethodStreaming & { methodKind: "server_streaming" };

type RawMethod<M> = M extends {
  methodKind: "unary";
  input: infer I extends DescMessage;
  output: infer O extends DescMessage;
}
  ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
  : M extends {
        methodKind: "server_streaming";
        input: infer I extends DescMessage;
        output: infer O extends DescMessage;
      }
    ? (request: MessageInitShape<I>, signal?: AbortSignal) => AsyncIterable<MessageShape<O>>
    : never;

/**
 * Returns a service's unary and server-streaming RPCs, with this client's connections, token and deadlines. RPCs that
 * change something are not retried, because some, such as issuing a key, would take effect twice.
 */
export function rawService<S extends DescService>(service: S, rpc: RpcClient): RawService<S> {
  const calls: Record<string, unknown> = {};
  for (const method of service.methods as readonly DescMethod[]) {
    if (method.methodKind === "unary") calls[method.localName] = rawUnary(method as DescMethodUnary, rpc);
    if (method.methodKind === "server_streaming")
      calls[method.localName] = rawStream(method as ServerStreaming, rpc);
  }
  return Object.freeze(calls) as RawService<S>;
}

function rawUnary(method: DescMethodUnary, rpc: RpcClient): unknown {
  return async (request: MessageInitShape<DescMessage>, options?: CallOptions) =>
    printable(await rpc.call(method, create(method.input, request), { ...options, once: !isRead(method) }));
}

function rawStream(method: ServerStreaming, rpc: RpcClient): unknown {
  return async function* (request: MessageInitShape<DescMessage>, signal?: AbortSignal) {
    for await (const message of rpc.stream(method, create(method.input, request), signal))
      yield printable(message);
  };
}
