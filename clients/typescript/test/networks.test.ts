import assert from "node:assert/strict";
import { test } from "node:test";
import { DeniedError } from "../src/denied.js";
import { LeakAction } from "../src/gen/tenantauth/v1/admin_pb.js";
import { SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { Validation } from "../src/validation.js";
import { keyAnswer } from "./support/answers.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";

const { validateKey, validateSession, batchValidateKeys } = ValidationService.method;
const { bindSession } = SessionService.method;
const noWatch = { nearCache: { watch: false } };
const uncached = { nearCache: false };
const office = ["192.0.2.0/24", "2001:db8:1::/48"];

const seen = ({ verdict, valid, missingScopes, source }: Validation): unknown[] => [
  verdict,
  valid,
  missingScopes,
  source,
];

test("networks: one answer serves all addresses", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ allowedNetworks: office }));
  const first = await client.validateKey("k", { clientAddress: "192.0.2.7", scopes: ["orders:read"] });
  assert.deepEqual(seen(first), ["VALID", true, [], "FRESH"]);
  assert.deepEqual(first.allowedNetworks, office);
  const [asked] = fake.callsOf(validateKey);
  assert.deepEqual([asked?.request.clientAddress, asked?.request.requiredScopes], ["192.0.2.7", []]);
  for (const [clientAddress, scopes, expected] of [
    ["192.0.2.255:1234", ["orders:read"], ["VALID", true, []]],
    ["::ffff:192.0.2.8", [], ["VALID", true, []]],
    ["2001:db8:1::1", [], ["VALID", true, []]],
    ["192.0.2.7", ["orders:write"], ["INSUFFICIENT_SCOPE", false, ["orders:write"]]],
    ["192.0.3.7", [], ["ADDRESS_NOT_ALLOWED", false, []]],
    ["2001:db8:2::1", [], ["ADDRESS_NOT_ALLOWED", false, []]],
    ["192.0.3.7", ["orders:write"], ["ADDRESS_NOT_ALLOWED", false, []]],
    ["", ["orders:write"], ["ADDRESS_REQUIRED", false, []]],
    [undefined, [], ["ADDRESS_REQUIRED", false, []]],
  ] as const) {
    const near = await client.validateKey("k", { clientAddress, scopes });
    assert.deepEqual(seen(near), [...expected, "NEAR"], String(clientAddress));
    assert.deepEqual([near.tenantId, near.keyId], ["ten_1", "key_1"]);
  }
  assert.equal(fake.calls.length, 1);
});

test("networks: an answer without an address serves all addresses", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  for (const verdict of [Verdict.ADDRESS_REQUIRED, Verdict.ADDRESS_NOT_ALLOWED]) {
    const key = `key ${verdict}`;
    fake.answer(validateKey, () => keyAnswer({ verdict, allowedNetworks: office }));
    assert.equal((await client.validateKey(key)).verdict, "ADDRESS_REQUIRED");
    const clientAddress = "192.0.2.7";
    assert.deepEqual(seen(await client.validateKey(key, { clientAddress })), ["VALID", true, [], "NEAR"]);
  }
  assert.equal(fake.calls.length, 2);
});

test("networks: other verdicts apply to every address", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  for (const verdict of [Verdict.REVOKED, Verdict.EXPIRED, Verdict.DISABLED, Verdict.TENANT_SUSPENDED]) {
    const key = `key ${verdict}`;
    fake.answer(validateKey, () => keyAnswer({ verdict, allowedNetworks: office }));
    for (const clientAddress of ["192.0.2.7", "192.0.3.7", undefined])
      assert.equal((await client.validateKey(key, { clientAddress })).verdict, Verdict[verdict]);
  }
  assert.equal(fake.calls.length, 4);
});

test("networks: a denial without networks applies to all addresses", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.ADDRESS_NOT_ALLOWED }));
  for (const clientAddress of ["192.0.2.7", "192.0.3.7"])
    assert.equal((await client.validateKey("k", { clientAddress })).verdict, "ADDRESS_NOT_ALLOWED");
});

test("networks: a network that cannot be parsed contains nothing", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ allowedNetworks: ["a new kind"] }));
  const answer = await client.validateKey("k", { clientAddress: "192.0.2.7" });
  assert.equal(answer.verdict, "ADDRESS_NOT_ALLOWED");
});

test("networks: a key without networks needs no address", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer());
  for (const clientAddress of [undefined, "192.0.2.7", "2001:db8::1"])
    assert.equal((await client.validateKey("k", { clientAddress })).verdict, "VALID");
  assert.equal(fake.calls.length, 1);
});

test("networks: requests in flight each evaluate their own address", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    return keyAnswer({ verdict: Verdict.ADDRESS_NOT_ALLOWED, allowedNetworks: office });
  });
  const addresses = ["192.0.3.7", "192.0.2.7", undefined, "192.0.2.8"];
  const asked = addresses.map((clientAddress) => client.validateKey("k", { clientAddress }));
  await until("the call is there", () => fake.calls.length === 1);
  hold.open();
  const verdicts = (await Promise.all(asked)).map(({ verdict }) => verdict);
  assert.deepEqual(verdicts, ["ADDRESS_NOT_ALLOWED", "VALID", "ADDRESS_REQUIRED", "VALID"]);
  assert.equal(fake.callsOf(validateKey)[0]?.request.clientAddress, "192.0.3.7");
  assert.equal(fake.calls.length, 1);
});

test("networks: a session is limited by both keys", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateSession, ({ key }) => ({
    ...keyAnswer({ allowedNetworks: ["192.0.2.0/24", "198.51.100.0/24"] }),
    ...(key === "other" && {
      presentedKeyId: "key_2",
      presentedKeyAllowedNetworks: ["198.51.100.0/24", "203.0.113.0/24"],
    }),
  }));
  const verdicts = async (key: string): Promise<string[]> => {
    const all = ["192.0.2.1", "198.51.100.1", "203.0.113.1", undefined].map((clientAddress) =>
      client.validateSession("s", { key, clientAddress }),
    );
    return (await Promise.all(all)).map(({ verdict }) => verdict);
  };
  const denied = "ADDRESS_NOT_ALLOWED";
  for (let time = 0; time < 2; time += 1) {
    assert.deepEqual(await verdicts("opener"), ["VALID", "VALID", denied, "ADDRESS_REQUIRED"]);
    assert.deepEqual(await verdicts("other"), [denied, "VALID", denied, "ADDRESS_REQUIRED"]);
  }
  assert.equal(fake.calls.length, 2);
  const session = await client.validateSession("s", { key: "other", clientAddress: "198.51.100.1" });
  assert.deepEqual(session.presentedKeyAllowedNetworks, ["198.51.100.0/24", "203.0.113.0/24"]);
  await client.requireSession("s", { key: "other", clientAddress: "198.51.100.1" });
});

test("networks: without the near cache the service decides", async (t) => {
  const { fake, client } = await connected(t, uncached);
  fake.answer(validateKey, ({ clientAddress }) =>
    keyAnswer({ verdict: clientAddress === "" ? Verdict.ADDRESS_REQUIRED : Verdict.VALID }),
  );
  assert.equal((await client.validateKey("k")).verdict, "ADDRESS_REQUIRED");
  const clientAddress = "[2001:db8::7]:443";
  await client.requireKey("k", { clientAddress, scopes: ["a"] });
  assert.equal(fake.callsOf(validateKey)[1]?.request.clientAddress, clientAddress);
  const denied = await client.requireKey("k").catch((error: unknown) => error);
  assert.ok(denied instanceof DeniedError && denied.verdict === "ADDRESS_REQUIRED");
});

test("networks: requests with invalid scopes carry the address", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer());
  await client.validateKey("k", { scopes: ["Orders"], clientAddress: "192.0.2.7" });
  assert.equal(fake.callsOf(validateKey)[0]?.request.clientAddress, "192.0.2.7");
});

test("networks: a batch has an address per key", async (t) => {
  const { fake, client } = await connected(t);
  fake.answer(batchValidateKeys, ({ requests }) => ({
    results: requests.map(({ key }) => ({
      result: { case: "response" as const, value: keyAnswer({ keyId: key }) },
    })),
  }));
  const outcomes = await client.validateKeys([
    { key: "a", clientAddress: "192.0.2.7" },
    { key: "b", clientAddress: "192.0.2.0/24" },
    { key: "c", clientAddress: undefined },
    "d",
  ]);
  assert.deepEqual(
    outcomes.map((outcome) => (outcome instanceof Error ? outcome.violations[0]?.field : outcome.keyId)),
    ["a", "client_address", "c", "d"],
  );
  const sent = fake.callsOf(batchValidateKeys)[0]?.request.requests ?? [];
  assert.deepEqual(
    sent.map(({ clientAddress }) => clientAddress),
    ["192.0.2.7", "", ""],
  );
});

test("networks: a session is bound with the address", async (t) => {
  const { fake, client } = await connected(t);
  fake.answer(bindSession, () => ({ verdict: Verdict.ADDRESS_NOT_ALLOWED }));
  const session = { sessionId: "s", key: "k", ttlMs: 60_000 };
  const binding = await client.sessions.bind({ ...session, clientAddress: "fe80::1%eth0" });
  assert.equal(binding.verdict, "ADDRESS_NOT_ALLOWED");
  await client.sessions.bind(session);
  const sent = fake.callsOf(bindSession).map(({ request }) => request.clientAddress);
  assert.deepEqual(sent, ["fe80::1%eth0", ""]);
});

test("networks: an invalid address is an error before the call", async (t) => {
  const { fake, client } = await connected(t);
  fake.answer(validateKey, () => keyAnswer());
  await client.validateKey("k");
  const clientAddress = "192.0.2.0/24";
  for (const call of [
    client.validateKey("k", { clientAddress }),
    client.requireKey("k", { clientAddress }),
    client.validateSession("s", { clientAddress }),
    client.requireSession("s", { clientAddress }),
    client.sessions.bind({ sessionId: "s", key: "k", ttlMs: 1000, clientAddress }),
  ]) {
    const error = await failure(call);
    assert.deepEqual([error.kind, error.violations[0]?.field], ["invalid", "client_address"]);
  }
  await assert.rejects(client.validateKey("k", { clientAddress: null as never }), TypeError);
  await assert.rejects(client.validateKeys([{ key: "k", clientAddress: 7 as never }]), TypeError);
  assert.equal(fake.calls.length, 1);
});

test("service: a key is valid in its networks only", withService, async (t) => {
  const { endpoint } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const { admin } = client.raw;
  const limited = { tenantId: "ten_demo", scopes: ["demo:read"] };
  const issued = await admin.issueKey({ ...limited, name: "office", allowedNetworks: office });
  const verdict = async (clientAddress?: string): Promise<string> =>
    (await client.validateKey(issued.plaintext, { clientAddress })).verdict;
  // The first one is decided by the service, and the second one by the near cache.
  for (let time = 0; time < 2; time += 1) {
    assert.equal(await verdict("192.0.2.7"), "VALID");
    assert.equal(await verdict("[2001:db8:1::7]:443"), "VALID");
    assert.equal(await verdict("192.0.3.7"), "ADDRESS_NOT_ALLOWED");
    assert.equal(await verdict(), "ADDRESS_REQUIRED");
  }
  const [first, second] = await client.validateKeys([
    { key: issued.plaintext, clientAddress: "192.0.2.7" },
    { key: issued.plaintext, clientAddress: "192.0.3.7" },
  ]);
  assert.ok(first !== undefined && !(first instanceof Error) && first.valid);
  assert.ok(second !== undefined && !(second instanceof Error) && second.verdict === "ADDRESS_NOT_ALLOWED");
  const keyId = issued.key?.keyId ?? "";
  const updateMask = { paths: ["allowed_networks"] };
  await admin.updateKey({ keyId, updateMask, allowedNetworks: ["203.0.113.0/24"] });
  assert.equal(await verdict("192.0.2.7"), "ADDRESS_NOT_ALLOWED");
  assert.equal(await verdict("203.0.113.1"), "VALID");
  const explained = await admin.explainKey({ keyId, clientAddress: "192.0.2.7" });
  assert.equal(explained.verdict, Verdict.ADDRESS_NOT_ALLOWED);
});

test("service: a session is used in the networks of its key only", withService, async (t) => {
  const { endpoint } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const limited = { tenantId: "ten_demo", name: "office", scopes: [], allowedNetworks: office };
  const { plaintext: key } = await client.raw.admin.issueKey(limited);
  const session = { sessionId: "s", key, ttlMs: 3_600_000 };
  assert.equal((await client.sessions.bind(session)).verdict, "ADDRESS_REQUIRED");
  assert.equal((await client.sessions.bind({ ...session, clientAddress: "192.0.2.7" })).verdict, "VALID");
  const verdict = async (clientAddress?: string): Promise<string> =>
    (await client.validateSession("s", { key, clientAddress })).verdict;
  for (let time = 0; time < 2; time += 1) {
    assert.equal(await verdict("192.0.2.8"), "VALID");
    assert.equal(await verdict("192.0.3.7"), "ADDRESS_NOT_ALLOWED");
    assert.equal(await verdict(), "ADDRESS_REQUIRED");
  }
});

test("service: a deleted tenant's key and a leaked key are denied", withService, async (t) => {
  const { endpoint } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const { admin, info } = client.raw;
  const tenantId = "acme";
  await admin.createTenant({ tenantId, name: "Acme", plan: "pro" });
  const leakPolicy = { action: LeakAction.DISABLE };
  await admin.updateTenant({ tenantId, updateMask: { paths: ["leak_policy"] }, leakPolicy });
  const issue = async (name: string): Promise<string> =>
    (await admin.issueKey({ tenantId, name, scopes: [] })).plaintext;
  const leaked = await issue("leaked");
  const kept = await issue("kept");
  for (const key of [leaked, kept]) assert.ok((await client.validateKey(key)).valid);
  const report = await admin.reportLeak({ plaintext: leaked, source: "github", location: "a/b.txt:1" });
  assert.deepEqual([report.known, report.action], [true, LeakAction.DISABLE]);
  assert.ok((await info.waitForRevision({ revision: report.revision }, { timeoutMs: 10_000 })).applied);
  assert.equal((await client.validateKey(leaked)).verdict, "DISABLED");
  await admin.suspendTenant({ tenantId, reason: "left" });
  await until("it is deleted", async () => (await admin.deleteTenant({ tenantId, reason: "left" })).complete);
  assert.equal((await client.validateKey(kept)).verdict, "UNKNOWN");
});
