import { type Challenge, insufficientScope, notInPolicy, type Rejection } from "../http/rejection.js";
import { type Decision, decide, united } from "./decision.js";
import { agreedMessage, type MirroredHeaders, operationsOfHeaders } from "./header-agreement.js";
import { asObject, idOf, type Json } from "./message.js";
import { operationsOf, SUBSCRIPTIONS } from "./operations.js";
import type { PolicyTable } from "./policy.js";

/** The scopes that requests need, and those that the key holds. */
export interface Scopes {
  /** Needed by every request. */
  readonly needed: readonly string[];
  readonly held: readonly string[];
}

/** A request body that was judged. */
export interface Judged {
  readonly messages: readonly Json[];
  readonly decision: Decision;
}

/** Judges the body of a handshake revision: one message or a batch. Throws `RpcRejection`. */
export function judgeHandshake(policy: PolicyTable, body: unknown): Judged {
  const all: unknown[] = Array.isArray(body) ? body : [body];
  const messages = all.map(asObject).filter((message) => message !== undefined);
  const decisions = messages.map((message) =>
    decide(policy, operationsOf(message), Array.isArray(body) ? null : idOf(message)),
  );
  return { messages, decision: united(decisions) };
}

/** Judges the headers of a stateless request. Throws `RpcRejection`. */
export function judgeHeaders(policy: PolicyTable, headers: MirroredHeaders): Decision {
  return decide(policy, operationsOfHeaders(headers), null);
}

/** Judges the body of a stateless request, which must agree with its headers. Throws `RpcRejection`. */
export function judgeStateless(policy: PolicyTable, headers: MirroredHeaders, body: unknown): Judged {
  const message = agreedMessage(headers, body);
  // These revisions have no subscriptions of single resources: the server says so if there is no URI to decide about.
  const isUnknown =
    SUBSCRIPTIONS.has(message.method as string) && asObject(message.params)?.uri === undefined;
  const operations = operationsOf(message).filter(({ kind }) => !isUnknown || kind === "methods");
  return { messages: [message], decision: decide(policy, operations, idOf(message)) };
}

/** Returns the rejection of a decision for a key, if there is one. Its scopes are those of the refused operations. */
export function rejectionOf(
  { isOutside, needs }: Decision,
  { needed, held }: Scopes,
  challenge: Challenge,
): Rejection | undefined {
  if (isOutside) return notInPolicy();
  const isMissing = (scope: string): boolean => !held.includes(scope);
  const refused = [[], ...needs].map((scopes) => [...needed, ...scopes]).filter((all) => all.some(isMissing));
  const all = [...new Set(refused.flat())].sort();
  return all.length === 0 ? undefined : insufficientScope(all, all.filter(isMissing), challenge);
}
