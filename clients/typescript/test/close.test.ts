import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "../src/client.js";
import { ours } from "./support/process.js";
import { clientOf, startService, withService } from "./support/service.js";
import { failure } from "./support/setup.js";
import { until } from "./support/until.js";

const calls: readonly (readonly [string, (client: Client, key: string) => Promise<unknown>])[] = [
  ["validateKey", (client, key) => client.validateKey(key)],
  ["requireKey", (client, key) => client.requireKey(key)],
  ["validateKeys", (client, key) => client.validateKeys([key])],
  ["validateSession", (client) => client.validateSession("s")],
  ["serverInfo", (client) => client.serverInfo()],
  ["bind", (client, key) => client.sessions.bind({ sessionId: "s", key, ttlMs: 60_000 })],
  ["list", (client) => client.sessions.list("ten_demo")[Symbol.asyncIterator]().next()],
  ["record", (client) => client.usage.record([{ tenantId: "ten_demo", metric: "a", quantity: 1 }])],
  ["raw", (client) => client.raw.admin.getTenant({ tenantId: "ten_demo" })],
];

for (const [name, call] of calls) {
  test(`close: calls of the same tick complete, later ones are rejected: ${name}`, withService, async (t) => {
    const { endpoint, key } = await startService(t);
    // Nothing is connected yet.
    const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
    const asked = name === "requireKey" ? client.requireKey(key) : call(client, key);
    client.close();
    client.close();
    assert.ok(await asked);
    const error = await failure(call(client, key));
    assert.deepEqual([error.kind, error.message], ["closed", "CANCELLED: the client is closed"]);
  });
}

test("close: cache and recorder reject, and streams end", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  await until("it is remembered", async () => (await client.validateKey(key)).source === "NEAR");
  const recorder = client.usageRecorder();
  const watch = client.raw.watch.watch({})[Symbol.asyncIterator]();
  assert.equal((await watch.next()).done, false);
  client[Symbol.dispose]();
  assert.equal((await failure(client.validateKey(key))).kind, "closed");
  assert.throws(() => recorder.record("ten_demo", "a", 1), { kind: "closed" });
  await until("the stream is over", async () => (await watch.next()).done === true);
  assert.equal(client.watchState().live, false);
});

test("close: nothing keeps the process alive", withService, async (t) => {
  const { endpoint } = await startService(t);
  const runner = ours(t, "test/support/closing", { TENANT_AUTH_ENDPOINTS: endpoint });
  assert.equal(await runner.ended, 0);
  assert.deepEqual(runner.lines, ["closed"]);
});
