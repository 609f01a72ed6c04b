import { RPC, RpcRejection } from "./message.js";
import type { Operation } from "./operations.js";
import type { PolicyRule, PolicyTable } from "./policy.js";

/** What the policy says about the operations of a request. */
export interface Decision {
  /** Whether an operation has no entry although the policy has a section for its kind. */
  readonly isOutside: boolean;
  /** The scopes of each operation. */
  readonly needs: readonly (readonly string[])[];
  /** The usage of the operations. */
  readonly usage: readonly { readonly metric: string; readonly quantity: number }[];
}

/** The decision about a request that the policy does not mention. */
export const OPEN: Decision = { isOutside: false, needs: [], usage: [] };

/** The method that uses each kind. */
const USED_BY = { tools: "tools/call", resources: "resources/read", prompts: "prompts/get" } as const;

/**
 * Decides about the operations of a message. Throws `RpcRejection` for one without a name that the policy governs; `id` is
 * that of the message.
 */
export function decide(policy: PolicyTable, operations: readonly Operation[], id: unknown): Decision {
  const rules: PolicyRule[] = [];
  const methodScopes: string[] = [];
  const needs: (readonly string[])[] = [];
  let isOutside = false;
  for (const { kind, name } of operations) {
    if (!policy.governs(kind)) continue;
    if (name === undefined)
      throw new RpcRejection(RPC.invalidParams, `The name or URI in params must be a text (${kind}).`, id);
    const rule = policy.rule(kind, name);
    if (rule === undefined) isOutside ||= kind !== "methods";
    else {
      rules.push(rule);
      if (kind === "methods") methodScopes.push(...rule.scopes);
      else needs.push(rule.scopes);
    }
  }
  return {
    isOutside,
    // A method's entry applies in addition to that of each tool, resource and prompt.
    needs: needs.length === 0 ? [methodScopes] : needs.map((scopes) => [...scopes, ...methodScopes]),
    usage: rules.flatMap(({ usage }) => (usage === undefined ? [] : [usage])),
  };
}

/** Combines the decisions about the messages of a batch: one that is refused refuses all. */
export function united(decisions: readonly Decision[]): Decision {
  return {
    isOutside: decisions.some(({ isOutside }) => isOutside),
    needs: decisions.flatMap(({ needs }) => needs),
    usage: decisions.flatMap(({ usage }) => usage),
  };
}

/** Whether a key with these scopes may use a tool, resource or prompt. */
export function mayUse(
  policy: PolicyTable,
  kind: keyof typeof USED_BY,
  name: string,
  scopes: readonly string[],
): boolean {
  const operations = [
    { kind, name },
    { kind: "methods", name: USED_BY[kind] },
  ] as const;
  const { isOutside, needs } = decide(policy, operations, null);
  return !isOutside && needs.flat().every((scope) => scopes.includes(scope));
}
