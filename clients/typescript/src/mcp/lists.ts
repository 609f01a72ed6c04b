import { mayUse } from "./decision.js";
import { asObject, type Json } from "./message.js";
import type { PolicyTable } from "./policy.js";

interface List {
  /** The member of the result with the list. */
  readonly member: string;
  readonly kind: "tools" | "resources" | "prompts";
  /** The member of an entry by which the policy names it. */
  readonly name: string;
}

const LISTS: ReadonlyMap<string, List> = new Map([
  ["tools/list", { member: "tools", kind: "tools", name: "name" }],
  ["prompts/list", { member: "prompts", kind: "prompts", name: "name" }],
  ["resources/list", { member: "resources", kind: "resources", name: "uri" }],
  ["resources/templates/list", { member: "resourceTemplates", kind: "resources", name: "uriTemplate" }],
]);

/** Removes from the results of list requests what a key may not use. */
export class ListFilter {
  readonly #policy: PolicyTable;
  readonly #scopes: readonly string[];
  /** The lists by the id of their request; `undefined`: unknown, so they are recognised by their members. */
  readonly #byId: ReadonlyMap<unknown, List> | undefined;

  /** `messages`: those of the request; `undefined` for a stream that may repeat responses to earlier requests. */
  constructor(policy: PolicyTable, scopes: readonly string[], messages: readonly Json[] | undefined) {
    this.#policy = policy;
    this.#scopes = scopes;
    this.#byId =
      messages &&
      new Map(
        messages.flatMap(({ id, method }) => {
          const list = LISTS.get(method as string);
          return list === undefined ? [] : [[id, list] as const];
        }),
      );
  }

  /** Whether a response may contain a list. */
  get isNeeded(): boolean {
    return this.#byId === undefined || this.#byId.size > 0;
  }

  /** Returns the text of a message or a batch with filtered lists; the same text if nothing is to be filtered. */
  filtered(text: string): string {
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch {
      return text;
    }
    const messages: unknown[] = Array.isArray(body) ? body : [body];
    const changed = messages.map((message) => this.#message(message));
    if (changed.every((message, at) => message === messages[at])) return text;
    return JSON.stringify(Array.isArray(body) ? changed : changed[0]);
  }

  #message(given: unknown): unknown {
    const message = asObject(given);
    const result = asObject(message?.result);
    if (message === undefined || result === undefined) return given;
    const lists = this.#byId === undefined ? [...LISTS.values()] : [this.#byId.get(message.id)];
    const found = lists.filter((list) => list !== undefined && Array.isArray(result[list.member]));
    if (found.length === 0) return given;
    const isScoped = "cacheScope" in result;
    return {
      ...message,
      result: {
        ...result,
        ...Object.fromEntries(found.map((list) => [list?.member, this.#allowed(list as List, result)])),
        // The list depends on the key, so caches must not share it.
        ...(isScoped ? { cacheScope: "private" } : {}),
      },
    };
  }

  #allowed({ member, kind, name }: List, result: Json): unknown[] {
    return (result[member] as unknown[]).filter((entry) => {
      const named = asObject(entry)?.[name];
      const isNamed = typeof named === "string";
      // Without a name, it cannot be in the policy.
      if (!isNamed && this.#policy.governs(kind)) return false;
      return mayUse(this.#policy, kind, isNamed ? named : "", this.#scopes);
    });
  }
}
