import { readFileSync } from "node:fs";
import { usageEvent } from "../usage-event.js";
import { hasRepeatedMember } from "./repeated-members.js";

/** What an operation needs, besides a valid key. */
export interface McpPolicyEntry {
  /** Scopes that the key must hold, all of them. */
  readonly scopes?: readonly string[];
  /** The usage to record for each admitted operation; `quantity` is 1 by default. */
  readonly usage?: { readonly metric: string; readonly quantity?: number };
}

/** Entries by name. A name that ends in `*` is a prefix; an exact name wins, then the longest prefix. */
export type McpPolicySection = Readonly<Record<string, McpPolicyEntry>>;

/**
 * Which keys may use what. If there is a section for tools, resources or prompts, those without an entry are rejected;
 * without a section, every valid key may use them. Methods without an entry are open to every valid key.
 */
export interface McpPolicy {
  /** By name of the tool. */
  readonly tools?: McpPolicySection;
  /** By URI of the resource. */
  readonly resources?: McpPolicySection;
  /** By name of the prompt. */
  readonly prompts?: McpPolicySection;
  /** By method, such as `logging/setLevel`; in addition to the entry of the tool, resource or prompt. */
  readonly methods?: McpPolicySection;
}

/** What a policy can name. */
export type Kind = "tools" | "resources" | "prompts" | "methods";

/** A checked entry. */
export interface PolicyRule {
  readonly scopes: readonly string[];
  readonly usage: { readonly metric: string; readonly quantity: number } | undefined;
}

interface Section {
  readonly exact: ReadonlyMap<string, PolicyRule>;
  /** The longest first. */
  readonly prefixes: readonly (readonly [string, PolicyRule])[];
}

const KINDS: readonly Kind[] = ["tools", "resources", "prompts", "methods"];
const SCOPE = /^[a-z0-9:._\-/*]{1,64}$/;
const MAX_SCOPES = 32;

/** A checked policy. */
export class PolicyTable {
  readonly #sections: ReadonlyMap<Kind, Section>;

  /** Throws a `TypeError` that names the path of what is wrong. */
  constructor(policy: McpPolicy) {
    const sections = object("policy", policy, KINDS);
    this.#sections = new Map(
      KINDS.filter((kind) => sections[kind] !== undefined).map((kind) => [
        kind,
        section(`policy.${kind}`, sections[kind]),
      ]),
    );
  }

  /** Whether there is a section for this kind. */
  governs(kind: Kind): boolean {
    return this.#sections.has(kind);
  }

  /** Returns the rule for a name, if there is one. */
  rule(kind: Kind, name: string): PolicyRule | undefined {
    const found = this.#sections.get(kind);
    return found?.exact.get(name) ?? found?.prefixes.find(([prefix]) => name.startsWith(prefix))?.[1];
  }

  /** All scopes that the policy names, sorted. */
  get scopes(): readonly string[] {
    return [...new Set(this.#rules().flatMap((rule) => rule.scopes))].sort();
  }

  /** Whether the policy records usage. */
  get hasUsage(): boolean {
    return this.#rules().some(({ usage }) => usage !== undefined);
  }

  #rules(): PolicyRule[] {
    return [...this.#sections.values()].flatMap(({ exact, prefixes }) => [
      ...exact.values(),
      ...prefixes.map(([, rule]) => rule),
    ]);
  }
}

/** Reads a policy from a JSON file. Throws a `TypeError` for a file that is not a valid policy. */
export function readMcpPolicy(path: string): McpPolicy {
  const text = readFileSync(path, "utf8");
  try {
    const policy = JSON.parse(text) as McpPolicy;
    if (hasRepeatedMember(text, () => true))
      throw new TypeError("a name occurs twice in one object: remove one of them");
    new PolicyTable(policy);
    return policy;
  } catch (error) {
    throw new TypeError(`${path}: ${(error as Error).message}`);
  }
}

function section(path: string, given: unknown): Section {
  const exact = new Map<string, PolicyRule>();
  const prefixes: [string, PolicyRule][] = [];
  for (const [name, entry] of Object.entries(object(path, given))) {
    if (name === "") throw new TypeError(`${path}: a name must not be empty; use "*" for all names`);
    const rule = checkedRule(`${path}[${JSON.stringify(name)}]`, entry);
    if (name.endsWith("*")) prefixes.push([name.slice(0, -1), rule]);
    else exact.set(name, rule);
  }
  return { exact, prefixes: prefixes.sort(([a], [b]) => b.length - a.length) };
}

function checkedRule(path: string, given: unknown): PolicyRule {
  const { scopes = [], usage } = object(path, given, ["scopes", "usage"]);
  if (!Array.isArray(scopes) || scopes.length > MAX_SCOPES)
    throw new TypeError(`${path}.scopes must be a list of at most ${MAX_SCOPES} scopes`);
  const wrong = scopes.findIndex((scope) => typeof scope !== "string" || !SCOPE.test(scope));
  if (wrong !== -1)
    throw new TypeError(
      `${path}.scopes[${wrong}] must be a scope such as "orders:read": 1 to 64 characters of a-z 0-9 : . _ - / *`,
    );
  return {
    scopes: [...new Set(scopes as string[])],
    usage: usage === undefined ? undefined : checkedUsage(`${path}.usage`, usage),
  };
}

function checkedUsage(path: string, given: unknown): { metric: string; quantity: number } {
  const { metric, quantity = 1 } = object(path, given, ["metric", "quantity"]);
  try {
    usageEvent("tenant", metric as string, quantity as number, new Date(0));
  } catch (error) {
    throw new TypeError(`${path}.${(error as Error).message}`);
  }
  return { metric: metric as string, quantity: quantity as number };
}

function object(path: string, given: unknown, known?: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new TypeError(`${path} must be an object`);
  const unknown = known && Object.keys(given).find((name) => !known.includes(name));
  if (unknown === undefined) return given as Readonly<Record<string, unknown>>;
  throw new TypeError(`${path}.${unknown} is not known: use ${known?.join(", ")}`);
}
