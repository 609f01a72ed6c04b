import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { createServer, request as httpRequest, type OutgoingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { mcpApp } from "../examples/mcp-app.js";
import { mcpGate } from "../src/mcp.js";
import { conformanceServer } from "./support/conformance-servers.js";
import { listening } from "./support/gates.js";
import { clientOf, startService, temporaryFolder, withService } from "./support/service.js";

const SUITE = "@modelcontextprotocol/conformance/dist/index.js";
const suite = fileURLToPath(import.meta.resolve(SUITE));
const hook = new URL("./support/glob-sync.js", import.meta.url).href;

/** The scenarios that a revision requires. The suite runs others too, such as those of extensions. */
async function required(revision: string): Promise<string[]> {
  const path = new URL(`../requirements/${revision}.yaml`, import.meta.resolve(SUITE));
  const [, server = ""] = /^server:\n((?: +- .*\n)+)/m.exec(await readFile(path, "utf8")) ?? [];
  return [...server.matchAll(/- (\S+)/g)].map(([, scenario = ""]) => scenario);
}

/** Every tool, resource and prompt needs an entry, so that the gate reads and filters everything. */
const policy = {
  tools: { "*": { scopes: ["demo:read"], usage: { metric: "mcp.tool_calls" } } },
  resources: { "*": { scopes: ["demo:read"] } },
  prompts: { "*": {} },
};

/** The suite sends no key: a proxy adds it. Everything else passes as it is. */
async function withKey(t: TestContext, target: string, key: string): Promise<string> {
  const { port } = new URL(target);
  const server = createServer((request, response) => {
    const headers = [
      ...request.rawHeaders,
      "Authorization",
      `Bearer ${key}`,
    ] as unknown as OutgoingHttpHeaders;
    const { method = "GET", url: path = "/" } = request;
    const asked = httpRequest({ host: "127.0.0.1", port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders as unknown as OutgoingHttpHeaders);
      answer.pipe(response);
    });
    asked.on("error", () => response.destroy());
    response.on("close", () => asked.destroy());
    request.pipe(asked);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

interface Check {
  readonly id: string;
  readonly status: string;
  readonly errorMessage?: string;
}

/** Runs the suite. Returns the checks of all scenarios with their outcome. */
async function outcomes(t: TestContext, url: string, revision: string): Promise<Map<string, string>> {
  const folder = await temporaryFolder(t);
  const local = url.replace("127.0.0.1", "localhost");
  const args = ["--import", hook, suite, "server", "--url", local, "--requirements", revision, "-o", folder];
  const run = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], cwd: folder });
  let output = "";
  for (const stream of [run.stdout, run.stderr]) stream.on("data", (part) => (output += part));
  await once(run, "close");
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith("checks.json"));
  const all = new Map<string, string>();
  for (const file of files) {
    const scenario = file.replace(/^server-|-\d{4}-\d\d-\d\dT.*$/g, "");
    const checks = JSON.parse(await readFile(join(folder, file), "utf8")) as Check[];
    for (const { id, status, errorMessage } of checks)
      if (status === "FAILURE" || !all.has(`${scenario}: ${id}`))
        all.set(`${scenario}: ${id}`, status === "FAILURE" ? `FAILURE: ${errorMessage}` : status);
  }
  assert.ok(all.size > 20, output.slice(-4000));
  return all;
}

const failed = (all: ReadonlyMap<string, string>): string[] =>
  [...all].filter(([, outcome]) => outcome.startsWith("FAILURE")).map(([check]) => check);

for (const revision of ["2025-11-25", "2026-07-28"]) {
  test(
    `conformance: ${revision}: the gate changes no outcome of the official suite`,
    withService,
    async (t) => {
      const bare = await outcomes(
        t,
        await listening(t, mcpApp(conformanceServer, () => undefined).app),
        revision,
      );

      const { endpoint, key } = await startService(t);
      const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
      const usage = client.usageRecorder();
      t.after(() => usage.close());
      const { app } = mcpApp(conformanceServer, ({ endSession }) =>
        mcpGate(client, { policy, usage, onUnboundSession: endSession }),
      );
      const gated = await outcomes(t, await withKey(t, await listening(t, app), key), revision);

      const scenarios = await required(revision);
      const isRequired = (check: string): boolean => scenarios.includes(check.split(":")[0] ?? "");
      const count = [...gated.keys()].filter(isRequired).length;
      t.diagnostic(
        `${revision}: ${scenarios.length} required scenarios with ${count} checks; ${gated.size} in all`,
      );
      assert.deepEqual([...gated.keys()].sort(), [...bare.keys()].sort());
      const byGate = failed(gated).filter((check) => !failed(bare).includes(check));
      assert.deepEqual(
        byGate.map((check) => `${check}: ${gated.get(check)}`),
        [],
      );
      assert.deepEqual(
        failed(bare)
          .filter(isRequired)
          .map((check) => `${check}: ${bare.get(check)}`),
        [],
      );
    },
  );
}
