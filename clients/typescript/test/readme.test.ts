import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import express, { type Express } from "express";
import type { Client } from "../src/client.js";
import { listening } from "./support/adapters.js";
import { hourly, setLimit } from "./support/limits.js";
import { clientOf, startService, withService } from "./support/service.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** What the snippets use without declaring it. */
interface Given {
  readonly client: Client;
  readonly key: string;
  readonly tenantId: string;
  readonly app: Express;
  readonly callModel: (prompt: string) => Promise<{ readonly tokens: number }>;
}

type Run = (given: Given) => Promise<void>;

/** Compiles the snippets of a section, each in a block of its own, and returns the function that runs all of them. */
async function compiled(section: string): Promise<Run> {
  const readme = await readFile(`${root}README.md`, "utf8");
  const text = readme.split(/^## /m).find((part) => part.startsWith(`${section}\n`)) ?? "";
  const snippets = [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => code);
  assert.ok(snippets.length > 0, `the section ${section} has no snippet`);
  const isImport = (line: string): boolean => line.startsWith("import ");
  const lines = snippets.map((code) => code.split("\n"));
  const imports = new Set(lines.flatMap((code) => code.filter(isImport)));
  const blocks = lines.map((code) => `{\n${code.filter((line) => !isImport(line)).join("\n")}}\n`);
  const folder = `${root}build/readme`;
  await mkdir(folder, { recursive: true });
  const source = [
    ...imports,
    'import type { Client } from "@tenant-auth/client";',
    'import type { Express } from "express";',
    "type CallModel = (prompt: string) => Promise<{ readonly tokens: number }>;",
    "interface Given { client: Client; key: string; tenantId: string; app: Express; callModel: CallModel }",
    "export async function run({ client, key, tenantId, app, callModel }: Given): Promise<void> {",
    ...blocks,
    "}",
  ];
  await writeFile(`${folder}/snippets.ts`, source.join("\n"));
  const compilerOptions = { rootDir: ".", outDir: ".", sourceMap: false, noUnusedLocals: false };
  const files = { include: ["snippets.ts"], exclude: [] };
  const config = { extends: "../../tsconfig.json", compilerOptions, ...files };
  await writeFile(`${folder}/tsconfig.json`, JSON.stringify(config));
  await promisify(execFile)(`${root}node_modules/.bin/tsc`, ["-p", folder]);
  return ((await import(`${folder}/snippets.js`)) as { run: Run }).run;
}

test("README: the snippets about limits run", withService, async (t) => {
  const run = await compiled("Limits");
  const { endpoint, key: demoKey } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const tenantId = "ten_demo";
  const { admin } = client.raw;
  const issued = await admin.issueKey({ tenantId, name: "orders", scopes: ["orders:read"] });
  await setLimit(client, "requests", hourly(10));
  await setLimit(client, "tokens", hourly(5000));
  const app = express();
  const logged = t.mock.method(console, "log", () => undefined);
  const prompts: string[] = [];
  const callModel = async (prompt: string): Promise<{ readonly tokens: number }> => {
    prompts.push(prompt);
    return { tokens: 120 };
  };
  await run({ client, key: issued.plaintext, tenantId, app, callModel });
  const lines = logged.mock.calls.map(({ arguments: said }) => said.map(String).join(" "));
  logged.mock.restore();
  assert.equal(lines[0]?.startsWith("welcome, "), true);
  assert.match(lines[1] ?? "", /^requests 10 \d false$/);
  assert.deepEqual(prompts, ["to be or not to be"]);
  const states = await client.limits.state({ tenantId });
  const tokens = states.find(({ limit }) => limit.name === "tokens");
  assert.deepEqual([tokens?.used, tokens?.reserved], [120, 0]);
  const url = await listening(t, app);
  const headers = { authorization: `Bearer ${demoKey}` };
  const response = await fetch(`${url}/orders`, { headers });
  assert.deepEqual([response.status, ((await response.json()) as string[]).length], [200, 1]);
  assert.equal((await fetch(`${url}/orders`, { method: "POST", headers, body: "tea" })).status, 200);
});
