import { asObject, type Json } from "./message.js";
import type { Kind } from "./policy.js";

/** One thing that a message does. */
export interface Operation {
  readonly kind: Kind;
  /** The name that the policy is searched for; `undefined` if it is missing or not a text. */
  readonly name: string | undefined;
}

/** The member of `params` that names what a method uses, for the methods that `Mcp-Name` mirrors. */
export const NAMED: ReadonlyMap<string, { readonly kind: Kind; readonly member: "name" | "uri" }> = new Map([
  ["tools/call", { kind: "tools", member: "name" }],
  ["prompts/get", { kind: "prompts", member: "name" }],
  ["resources/read", { kind: "resources", member: "uri" }],
]);

/** Subscriptions of single resources, in the revisions with sessions. */
export const SUBSCRIPTIONS: ReadonlySet<string> = new Set(["resources/subscribe", "resources/unsubscribe"]);

/** Returns the operations of a message. A response has none. */
export function operationsOf(message: Json): readonly Operation[] {
  const { method } = message;
  if (typeof method !== "string") return [];
  return [...named(method, asObject(message.params)), { kind: "methods", name: method }];
}

function named(method: string, params: Json | undefined): Operation[] {
  const mirrored = NAMED.get(method);
  if (mirrored !== undefined) return [{ kind: mirrored.kind, name: text(params?.[mirrored.member]) }];
  if (SUBSCRIPTIONS.has(method)) return [{ kind: "resources", name: text(params?.uri) }];
  if (method === "completion/complete") return completed(asObject(params?.ref));
  if (method === "subscriptions/listen") return listened(asObject(params?.notifications));
  return [];
}

function completed(ref: Json | undefined): Operation[] {
  if (ref?.type === "ref/prompt") return [{ kind: "prompts", name: text(ref.name) }];
  if (ref?.type === "ref/resource") return [{ kind: "resources", name: text(ref.uri) }];
  // A reference of another type might be read as either of them.
  return [
    { kind: "prompts", name: undefined },
    { kind: "resources", name: undefined },
  ];
}

function listened(notifications: Json | undefined): Operation[] {
  const subscribed = notifications?.resourceSubscriptions;
  if (subscribed === undefined) return [];
  const uris: unknown[] = Array.isArray(subscribed) ? subscribed : [undefined];
  return uris.map((uri) => ({ kind: "resources", name: text(uri) }));
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
