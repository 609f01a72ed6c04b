import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ours } from "./support/process.js";
import { callersFile, certificate, startService, temporaryFolder, withService } from "./support/service.js";

type Ask = (command: object) => Promise<Record<string, unknown>>;

async function running(t: TestContext, environment: NodeJS.ProcessEnv): Promise<Ask> {
  const runner = ours(t, "conformance/runner", environment);
  await runner.said(/^(\{"ready":true\})$/);
  let id = 0;
  return async (command) => {
    id += 1;
    runner.write(`${JSON.stringify({ id, ...command })}\n`);
    return JSON.parse(await runner.said(new RegExp(`^(\\{"id":${id},.*)$`))) as Record<string, unknown>;
  };
}

test("runner: an invalid configuration is reported with exit code 2", async (t) => {
  for (const [environment, message] of [
    [{ TENANT_AUTH_ENDPOINTS: "" }, /must be host:port/],
    [{ TENANT_AUTH_ENDPOINTS: "grpc://a:1" }, /must be host:port/],
    [{ TENANT_AUTH_ENDPOINTS: "a:1", TENANT_AUTH_TLS_CA_FILE: "/etc/passwd" }, /contains no PEM certificate/],
    [{ TENANT_AUTH_ENDPOINTS: "a:1", TENANT_AUTH_TIMEOUT_MS: "-1" }, /timeoutMs must be more than 0/],
    [{ TENANT_AUTH_ENDPOINTS: "a:1", TENANT_AUTH_TOKEN: "two words" }, /callerToken must be/],
  ] as const) {
    const runner = ours(t, "conformance/runner", environment);
    assert.equal(await runner.ended, 2);
    const said = JSON.parse(runner.lines[0] ?? "") as { ready: boolean; error: string };
    assert.equal(said.ready, false);
    assert.match(said.error, message);
  }
});

test(
  "runner: required keys, loads and many events, with TLS and a token from files",
  withService,
  async (t) => {
    const folder = await temporaryFolder(t);
    const token = join(folder, "token");
    await writeFile(token, "a-token\n");
    const { endpoint, key } = await startService(t, {
      environment: {
        TENANT_AUTH_TLS_CERT_FILE: certificate("server.pem"),
        TENANT_AUTH_TLS_KEY_FILE: certificate("server.key"),
        TENANT_AUTH_CALLERS_FILE: await callersFile(folder, ["a-token"]),
      },
    });
    const ask = await running(t, {
      TENANT_AUTH_ENDPOINTS: endpoint,
      TENANT_AUTH_TLS_CA_FILE: certificate("ca.pem"),
      TENANT_AUTH_TLS_SERVER_NAME: "tenant-auth.test",
      TENANT_AUTH_TOKEN_FILE: token,
      TENANT_AUTH_TIMEOUT_MS: "10000",
    });
    const granted = await ask({ op: "require_key", key, scopes: ["demo:read"], timeout_ms: 0 });
    assert.equal((granted.principal as { tenant_id: string }).tenant_id, "ten_demo");
    const { id: _, ...denied } = await ask({ op: "require_key", key, scopes: ["demo:x"] });
    assert.deepEqual(denied, { denied: "INSUFFICIENT_SCOPE", missing_scopes: ["demo:x"] });
    const load = await ask({ op: "load", key, scopes: [], calls: 20, interval_ms: 1, concurrency: 4 });
    assert.deepEqual([load.ok, load.verdicts, load.errors], [20, { VALID: 20 }, {}]);
    assert.equal((load.latency_ms as number[]).length, 20);
    const many = { op: "record_many", tenant_id: "ten_demo", metric: "api.calls", count: 1200 };
    const recorded = await ask(many);
    assert.deepEqual([recorded.accepted, recorded.rejected], [1200, 0]);
    const nobody = await ask({ ...many, tenant_id: "nobody", count: 3 });
    assert.deepEqual([nobody.accepted, nobody.rejected], [0, 3]);
  },
);
