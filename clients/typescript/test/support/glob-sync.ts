import { register } from "node:module";

/**
 * Lets the conformance suite start on Node.js 20, whose `fs` lacks the `globSync` that the suite imports for commands which
 * the tests do not use. Loaded with `--import`, it registers itself as a module hook.
 */
type Resolve = (specifier: string, context: object) => Promise<{ readonly url: string }>;

const FS = `export * from "node:fs"; export { default } from "node:fs"; export const globSync = undefined;`;

export async function resolve(specifier: string, context: object, next: Resolve): Promise<object> {
  if (specifier !== "fs") return await next(specifier, context);
  return { url: `data:text/javascript,${encodeURIComponent(FS)}`, shortCircuit: true };
}

if (!import.meta.url.includes("?hook")) register(`${import.meta.url}?hook`);
