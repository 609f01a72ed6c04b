import { hasRepeatedMember, type JsonPath } from "./repeated-members.js";

/** A JSON object. */
export type Json = Readonly<Record<string, unknown>>;

/** The error codes of JSON-RPC and MCP with which the gate rejects messages. */
export const RPC = {
  parseError: -32700,
  invalidRequest: -32600,
  invalidParams: -32602,
  /** The headers do not agree with the body, or are missing or malformed. */
  headerMismatch: -32020,
} as const;

/** A message that the gate rejects. */
export class RpcRejection extends Error {
  readonly code: number;
  /** The id of the message, if it is known. */
  readonly id: unknown;

  constructor(code: number, message: string, id: unknown = null) {
    super(message);
    this.name = "RpcRejection";
    this.code = code;
    this.id = id;
  }
}

/** Bodies and headers are read strictly: a server that repairs them might read something else. */
export const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Parses the body of a request. Throws `RpcRejection`. */
export function parseBody(bytes: Uint8Array): unknown {
  let text: string;
  let body: unknown;
  try {
    text = UTF8.decode(bytes);
    body = JSON.parse(text);
  } catch {
    throw new RpcRejection(RPC.parseError, "The body must be JSON in UTF-8.");
  }
  if (hasRepeatedMember(text, isRead))
    throw new RpcRejection(RPC.invalidRequest, "A member of the message occurs twice: send it once.");
  return body;
}

export function asObject(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

/** The id of a message for its response. */
export function idOf(message: Json | undefined): string | number | null {
  const id = message?.id;
  return typeof id === "string" || typeof id === "number" ? id : null;
}

/** The objects from which operations are read. Repeated members in a tool's arguments are the tool's own matter. */
const READ = new Set(["", "params", "params.ref", "params.notifications", "params._meta"]);

function isRead(path: JsonPath): boolean {
  const inMessage = typeof path[0] === "number" ? path.slice(1) : path;
  return inMessage.every((name) => typeof name === "string") && READ.has(inMessage.join("."));
}
