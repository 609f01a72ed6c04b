import { asObject, idOf, type Json, RPC, RpcRejection, UTF8 } from "./message.js";
import { NAMED, type Operation } from "./operations.js";

/** What the headers of a stateless request say about its body. */
export interface MirroredHeaders {
  readonly version: string;
  readonly method: string | undefined;
  /** The decoded name. */
  readonly name: string | undefined;
}

const ENCODED = /^=\?base64\?(.*)\?=$/s;
/** Visible ASCII, spaces and tabs inside. */
const PLAIN = /^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/;
const VERSION = "io.modelcontextprotocol/protocolVersion";

/** Reads the headers, from all their values. Throws `RpcRejection` for repeated and malformed ones. */
export function mirroredHeaders(
  version: string,
  methods: readonly string[],
  names: readonly string[],
): MirroredHeaders {
  const method = single("Mcp-Method", methods);
  const name = single("Mcp-Name", names);
  return { version, method, name: name === undefined ? undefined : decoded(name) };
}

/** Returns the operations that the headers alone name; empty if the body must decide. */
export function operationsOfHeaders({ method, name }: MirroredHeaders): readonly Operation[] {
  if (method === undefined) return [];
  const mirrored = NAMED.get(method);
  const byMethod: Operation = { kind: "methods", name: method };
  if (mirrored === undefined || name === undefined) return [byMethod];
  return [{ kind: mirrored.kind, name }, byMethod];
}

/** Returns the message of a body that agrees with its headers. Throws `RpcRejection`. */
export function agreedMessage(headers: MirroredHeaders, body: unknown): Json {
  const message = asObject(body);
  if (message === undefined)
    throw new RpcRejection(RPC.invalidRequest, "The body must be one JSON-RPC message.");
  const mismatch = (text: string): RpcRejection =>
    new RpcRejection(RPC.headerMismatch, `Header mismatch: ${text}`, idOf(message));
  const params = asObject(message.params);
  const { method } = message;
  // The headers of notifications are not defined, so the body decides.
  const isNotification = message.id === undefined;
  if (headers.method === undefined && !isNotification) throw mismatch("Mcp-Method is missing");
  if (headers.method !== undefined && headers.method !== method)
    throw mismatch("Mcp-Method is not the method of the body");
  const mirrored = typeof method === "string" ? NAMED.get(method) : undefined;
  if (mirrored !== undefined) {
    if (headers.name === undefined && !isNotification) throw mismatch("Mcp-Name is missing");
    if (headers.name !== undefined && headers.name !== params?.[mirrored.member])
      throw mismatch(`Mcp-Name is not params.${mirrored.member} of the body`);
  }
  const version = asObject(params?._meta)?.[VERSION];
  if (version !== undefined && version !== headers.version)
    throw mismatch("MCP-Protocol-Version is not the revision of the body");
  return message;
}

function single(header: string, values: readonly string[]): string | undefined {
  if (values.length > 1) throw new RpcRejection(RPC.headerMismatch, `${header} occurs twice: send it once.`);
  const [value] = values;
  if (value === undefined || PLAIN.test(value)) return value;
  throw new RpcRejection(RPC.headerMismatch, `${header} must be visible ASCII, or encoded as =?base64?…?=.`);
}

function decoded(value: string): string {
  const encoded = ENCODED.exec(value)?.[1];
  if (encoded === undefined) return value;
  const bytes = Buffer.from(encoded, "base64");
  try {
    // Node.js ignores what is not base64.
    if (bytes.toString("base64") === encoded) return UTF8.decode(bytes);
  } catch {
    // Not UTF-8.
  }
  throw new RpcRejection(RPC.headerMismatch, "Mcp-Name must be base64 of UTF-8.");
}
