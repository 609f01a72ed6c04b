import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Client } from "../src/client.js";
import { DeniedError } from "../src/denied.js";
import { TenantAuthError } from "../src/error.js";
import { ManualClock } from "./support/manual-clock.js";
import { clientOf, startService, withService } from "./support/service.js";
import { failure } from "./support/setup.js";
import { until } from "./support/until.js";

async function service(t: TestContext): Promise<{ client: Client; key: string }> {
  const { endpoint, key } = await startService(t);
  const client = new Client(endpoint, { timeoutMs: 10_000 });
  t.after(() => client.close());
  return { client, key };
}

test("service: key lifecycle", withService, async (t) => {
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

test("service: cached answers equal those of the service", withService, async (t) => {
  const { client, key } = await service(t);
  for (const scopes of [[], ["demo:read"], ["demo:x", "demo:a", "demo:x"], ["demo:write", "demo:read"]]) {
    const near = await client.validateKey(key, { scopes });
    // A batch does not use the near cache.
    const [asked] = await client.validateKeys([{ key, scopes }]);
    assert.ok(asked !== undefined && !(asked instanceof Error));
    assert.deepEqual([near.verdict, near.missingScopes], [asked.verdict, asked.missingScopes]);
  }
});

test("service: overlong input is not reported as overload", withService, async (t) => {
  const { client } = await service(t);
  const long = "x".repeat(3_000_000);
  assert.equal((await client.validateKey(long)).verdict, "MALFORMED");
  assert.equal((await client.validateSession("s", { key: long })).verdict, "MALFORMED");
  assert.equal((await failure(client.validateSession(long))).violations[0]?.field, "session_id");
});

test("service: malformed keys and invalid requests", withService, async (t) => {
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

test("service: a batch of 1,000 keeps its order", withService, async (t) => {
  const { client, key } = await service(t);
  const keys = Array.from({ length: 1000 }, (_, n) => (n % 3 === 0 ? key : `unknown-${n}`));
  const outcomes = await client.validateKeys(keys);
  assert.equal(outcomes.length, 1000);
  outcomes.forEach((outcome, n) => {
    assert.ok(!(outcome instanceof Error));
    assert.equal(outcome.verdict, n % 3 === 0 ? "VALID" : "UNKNOWN");
  });
});

test("service: an invalid batch entry has its own error", withService, async (t) => {
  const { client, key } = await service(t);
  const long = "x".repeat(5_000_000);
  const queries = [
    key,
    "",
    long,
    "half \ud800",
    { key, scopes: ["No Scope"] },
    { key, scopes: ["demo:read"] },
  ];
  const outcomes = await client.validateKeys(queries);
  assert.deepEqual(
    outcomes.map((outcome) => (outcome instanceof Error ? outcome.violations[0]?.field : outcome.verdict)),
    ["VALID", "key", "key", "key", "required_scopes[0]", "VALID"],
  );
  const none = await client.validateKeys([long]);
  assert.ok(none[0] instanceof Error && !none[0].message.includes("xxx"));
});

test("service: a thousand concurrent requests for one key", withService, async (t) => {
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

test("service: server info", withService, async (t) => {
  const { client } = await service(t);
  const info = await client.serverInfo();
  assert.match(info.version, /^\d+\.\d+\.\d+/);
  assert.equal(info.database, "EMBEDDED");
});

test("service: session lifecycle", withService, async (t) => {
  const { client, key } = await service(t);
  const wanted = { sessionId: "s", key, ttlMs: 60_000, attributes: { client: "cli" } };
  for (const already of [false, true]) {
    const { verdict, alreadyBound, session } = await client.sessions.bind(wanted);
    assert.deepEqual([verdict, alreadyBound, session?.tenantId], ["VALID", already, "ten_demo"]);
  }
  const answer = await client.validateSession("s", { key, scopes: ["demo:read"] });
  assert.deepEqual(
    [answer.verdict, answer.tenantId, answer.attributes],
    ["VALID", "ten_demo", { client: "cli" }],
  );
  const listed: string[] = [];
  for await (const { sessionId } of client.sessions.list("ten_demo")) listed.push(sessionId);
  assert.deepEqual(listed, ["s"]);
  assert.equal(await client.sessions.unbind("s", "ten_demo"), true);
  assert.equal(await client.sessions.unbind("s", "ten_demo"), false);
  assert.equal((await client.validateSession("s", { key })).verdict, "UNBOUND");
});

test("service: usage is counted once", withService, async (t) => {
  const { client } = await service(t);
  const events = [
    { tenantId: "ten_demo", metric: "api.calls", quantity: 3 },
    { tenantId: "nobody", metric: "api.calls", quantity: 1 },
  ];
  for (const already of [false, true]) {
    const outcome = await client.usage.record(events, { requestId: "r" });
    assert.deepEqual([outcome.accepted, outcome.alreadyRecorded], [1, already]);
    assert.deepEqual(
      outcome.rejected.map(({ index, error }) => [index, error.code]),
      [[1, "NOT_FOUND"]],
    );
  }
  const span = { start: new Date(Date.now() - 7_200_000), end: new Date(Date.now() + 7_200_000) };
  const sums: [string, bigint][] = [];
  for await (const { metric, quantity } of client.usage.query({
    tenantId: "ten_demo",
    bucket: "MONTH",
    ...span,
  })) {
    sums.push([metric, BigInt(quantity)]);
  }
  assert.deepEqual(sums, [["api.calls", 3n]]);
});

test("service: a revocation invalidates the near cache", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  // The clock stands still, so only the stream can.
  const client = new Client(endpoint, { timeoutMs: 10_000, clock: new ManualClock() });
  t.after(() => client.close());
  await until("the client watches", () => client.watchState().live);
  const { verdict, keyId } = await client.validateKey(key);
  assert.equal(verdict, "VALID");
  await client.raw.admin.revokeKey({ keyId, reason: "leaked" });
  await until("it is refused", async () => (await client.validateKey(key)).verdict === "REVOKED");
});

test("service: the presented key invalidates a cached session", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  // The clock stands still, so only the stream can invalidate the answer.
  const client = clientOf(t, endpoint, { timeoutMs: 10_000, clock: new ManualClock() });
  const operator = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const issue = { tenantId: "ten_demo", name: "second", scopes: ["demo:read"] };
  const second = await operator.raw.admin.issueKey(issue);
  await client.sessions.bind({ sessionId: "s", key, ttlMs: 3_600_000 });
  await until("the client watches", () => client.watchState().live);
  const asked = { key: second.plaintext };
  assert.equal((await client.validateSession("s", asked)).presentedKeyId, second.key?.keyId);
  await until("it is remembered", async () => (await client.validateSession("s", asked)).source === "NEAR");
  await operator.raw.admin.revokeKey({ keyId: second.key?.keyId ?? "", reason: "leaked" });
  await until("it is refused", async () => !(await client.validateSession("s", asked)).valid);
});

test("service: own changes invalidate the near cache", withService, async (t) => {
  const { client, key } = await service(t);
  const { keyId } = await client.validateKey(key);
  await client.sessions.bind({ sessionId: "s", key, ttlMs: 3_600_000 });
  assert.equal((await client.validateSession("s", { key })).verdict, "VALID");
  await client.sessions.unbind("s", "ten_demo");
  assert.equal((await client.validateSession("s", { key })).verdict, "UNBOUND");
  await client.raw.admin.revokeKey({ keyId, reason: "leaked" });
  assert.equal((await client.validateKey(key)).verdict, "REVOKED");
});

test("service: require returns the principal or a denial", withService, async (t) => {
  const { client, key } = await service(t);
  assert.equal((await client.requireKey(key, { scopes: ["demo:read"] })).tenantId, "ten_demo");
  const denied = await client.requireKey(key, { scopes: ["demo:x"] }).catch((error: unknown) => error);
  assert.ok(denied instanceof DeniedError && !(denied instanceof TenantAuthError));
  assert.deepEqual([denied.verdict, denied.missingScopes], ["INSUFFICIENT_SCOPE", ["demo:x"]]);
  assert.match(JSON.stringify(denied), /"revision":"\d+"/);
  const unbound = await client.requireSession("nobody's", { key }).catch((error: unknown) => error);
  assert.ok(unbound instanceof DeniedError && unbound.verdict === "UNBOUND");
});
