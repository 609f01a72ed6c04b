import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Client } from "../src/client.js";
import { startService, withService } from "./support/service.js";
import { failure } from "./support/setup.js";

async function service(t: TestContext): Promise<{ client: Client; key: string }> {
  const { endpoint, key } = await startService(t);
  const client = new Client(endpoint, { timeoutMs: 10_000 });
  t.after(() => client.close());
  return { client, key };
}

test("service: a key's life, from its issue to its revocation", withService, async (t) => {
  const { client } = await service(t);
  const { admin } = client.raw;
  await admin.createTenant({ tenantId: "acme", name: "Acme", plan: "pro" });
  const issued = await admin.issueKey({
    tenantId: "acme",
    name: "CI",
    scopes: ["orders:read", "orders:write"],
  });
  const key = issued.plaintext;
  const first = await client.validateKey(key, { scopes: ["orders:read"] });
  assert.deepEqual(
    [first.verdict, first.tenantId, first.tenantName, first.plan],
    ["VALID", "acme", "Acme", "pro"],
  );
  assert.equal(first.keyId, issued.key?.keyId);
  assert.deepEqual(first.scopes, ["orders:read", "orders:write"]);
  assert.ok(first.cacheableForMs > 0);
  const near = await client.validateKey(key, { scopes: ["users:read", "orders:read"] });
  assert.deepEqual(
    [near.verdict, near.missingScopes, near.source],
    ["INSUFFICIENT_SCOPE", ["users:read"], "NEAR"],
  );
  await admin.revokeKey({ keyId: first.keyId, reason: "leaked" });
  const [after] = await client.validateKeys([key]);
  assert.ok(after !== undefined && !(after instanceof Error));
  assert.equal(after.verdict, "REVOKED");
});

test("service: memory gives the same answers as the service", withService, async (t) => {
  const { client, key } = await service(t);
  for (const scopes of [[], ["demo:read"], ["demo:x", "demo:a", "demo:x"], ["demo:write", "demo:read"]]) {
    const near = await client.validateKey(key, { scopes });
    // A batch always asks.
    const [asked] = await client.validateKeys([{ key, scopes }]);
    assert.ok(asked !== undefined && !(asked instanceof Error));
    assert.deepEqual([near.verdict, near.missingScopes], [asked.verdict, asked.missingScopes]);
  }
});

test("service: what is no key, and what is no request", withService, async (t) => {
  const { client, key } = await service(t);
  assert.equal((await client.validateKey("ta_nonsense")).verdict, "MALFORMED");
  assert.equal((await client.validateKey("a-key-that-nobody-imported")).verdict, "UNKNOWN");
  const empty = await failure(client.validateKey(""));
  assert.deepEqual([empty.kind, empty.violations.map(({ field }) => field)], ["invalid", ["key"]]);
  const scope = await failure(client.validateKey(key, { scopes: ["demo:read", "No Scope"] }));
  assert.deepEqual(
    scope.violations.map(({ field }) => field),
    ["required_scopes[1]"],
  );
});

test("service: a batch of a thousand keeps its order", withService, async (t) => {
  const { client, key } = await service(t);
  const keys = Array.from({ length: 1000 }, (_, n) => (n % 3 === 0 ? key : `unknown-${n}`));
  const outcomes = await client.validateKeys(keys);
  assert.equal(outcomes.length, 1000);
  outcomes.forEach((outcome, n) => {
    assert.ok(!(outcome instanceof Error));
    assert.equal(outcome.verdict, n % 3 === 0 ? "VALID" : "UNKNOWN");
  });
});

test("service: a thousand callers on one key", withService, async (t) => {
  const { client, key } = await service(t);
  const answers = await Promise.all(Array.from({ length: 1000 }, () => client.validateKey(key)));
  assert.ok(answers.every(({ valid }) => valid));
});

test("service: errors of administration keep their reason", withService, async (t) => {
  const { client } = await service(t);
  const error = await failure(client.raw.admin.getTenant({ tenantId: "nobody" }));
  assert.deepEqual([error.kind, error.code, error.reason], ["other", "NOT_FOUND", "NO_SUCH_TENANT"]);
  assert.match(error.requestId ?? "", /^[0-9a-f-]{36}$/);
});

test("service: it describes itself", withService, async (t) => {
  const { client } = await service(t);
  const info = await client.serverInfo();
  assert.match(info.version, /^\d+\.\d+\.\d+/);
  assert.equal(info.database, "EMBEDDED");
});
