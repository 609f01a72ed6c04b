import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { InfoService } from "../src/gen/tenantauth/v1/info_pb.js";
import { LimitService } from "../src/gen/tenantauth/v1/limit_pb.js";
import { SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { UsageService } from "../src/gen/tenantauth/v1/usage_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import { Fake } from "./support/fake.js";
import { exceeded, limited, reserved } from "./support/limit-answers.js";
import { ours, type Program } from "./support/process.js";
import { gate, until } from "./support/until.js";

const { validateKey, validateSession, batchValidateKeys } = ValidationService.method;

type Ask = (command: object) => Promise<unknown>;

async function running(
  t: TestContext,
  environment: NodeJS.ProcessEnv = {},
): Promise<{ fake: Fake; runner: Program; ask: Ask }> {
  const fake = await Fake.start();
  t.after(() => fake.close());
  const runner = ours(t, "conformance/runner", { TENANT_AUTH_ENDPOINTS: fake.endpoint, ...environment });
  await runner.said(/^(\{"ready":true\})$/);
  let id = 0;
  const ask: Ask = async (command) => {
    id += 1;
    const mine = id;
    runner.write(`${JSON.stringify({ id: mine, ...command })}\n`);
    const line = await runner.said(new RegExp(`^(\\{"id":${mine},.*)$`));
    const { id: _id, age_ms: _age, ...answer } = JSON.parse(line) as Record<string, unknown>;
    return answer;
  };
  return { fake, runner, ask };
}

const good = { verdict: "VALID", tenant_id: "ten_1", plan: "pro", key_id: "key_1", missing_scopes: [] };

test("conformance: keys", async (t) => {
  const { fake, ask } = await running(t, { TENANT_AUTH_WATCH: "off" });
  fake.answer(validateKey, () => keyAnswer());
  const asked = { op: "validate_key", key: "k", timeout_ms: 5000 };
  assert.deepEqual(await ask({ ...asked, scopes: [] }), { ...good, source: "FRESH" });
  const lacking = { ...good, verdict: "INSUFFICIENT_SCOPE", missing_scopes: ["a"], source: "NEAR" };
  assert.deepEqual(await ask({ ...asked, scopes: ["a"] }), lacking);
  fake.answer(validateKey, () => Promise.reject(unavailable(60_000)));
  assert.deepEqual(await ask({ ...asked, key: "l" }), { error: "UNAVAILABLE", reason: "DATABASE_TIMED_OUT" });
  fake.answer(validateKey, () => Promise.reject(invalid("key")));
  assert.deepEqual(await ask({ ...asked, key: "" }), { error: "INVALID_ARGUMENT", fields: ["key"] });
  assert.equal(fake.watches.length, 0);
});

test("conformance: concurrent calls", async (t) => {
  const { fake, ask } = await running(t);
  fake.answer(validateKey, () => keyAnswer());
  const many = { op: "validate_key_concurrently", key: "k", times: 1000, timeout_ms: 5000 };
  assert.deepEqual(await ask(many), { verdicts: { VALID: 1000 }, errors: {} });
  assert.equal(fake.calls.length, 1);
  fake.answer(batchValidateKeys, () => ({
    results: [
      { result: { case: "response" as const, value: keyAnswer() } },
      { result: { case: "error" as const, value: { code: 14, message: "no answer" } } },
    ],
  }));
  const batch = { op: "validate_keys", keys: ["k", "l"], scopes: [], timeout_ms: 5000 };
  const items = [{ ...good, source: "FRESH", age_ms: 0 }, { error: "UNAVAILABLE" }];
  assert.deepEqual(await ask(batch), { items });
});

test("conformance: the client's address", async (t) => {
  const { fake, ask } = await running(t, { TENANT_AUTH_WATCH: "off" });
  const client_address = "192.0.2.7";
  fake.answer(validateKey, () => keyAnswer({ allowedNetworks: ["192.0.2.0/24"] }));
  fake.answer(validateSession, () => keyAnswer({ allowedNetworks: ["192.0.2.0/24"] }));
  fake.answer(SessionService.method.bindSession, () => ({ verdict: Verdict.ADDRESS_NOT_ALLOWED }));
  fake.answer(batchValidateKeys, ({ requests }) => ({
    results: requests.map(() => ({ result: { case: "response" as const, value: keyAnswer() } })),
  }));
  const verdictOf = async (command: object): Promise<unknown> =>
    ((await ask(command)) as { verdict?: string }).verdict;
  assert.equal(await verdictOf({ op: "validate_key", key: "k", client_address }), "VALID");
  assert.equal(await verdictOf({ op: "validate_key", key: "k" }), "ADDRESS_REQUIRED");
  const session = { op: "validate_session", session_id: "s" };
  assert.equal(await verdictOf({ ...session, client_address }), "VALID");
  assert.equal(await verdictOf({ ...session, client_address: "192.0.3.7" }), "ADDRESS_NOT_ALLOWED");
  const required = { op: "require_key", key: "k" };
  const principal = { tenant_id: "ten_1", key_id: "key_1" };
  assert.deepEqual(await ask({ ...required, client_address }), { principal });
  assert.deepEqual(await ask(required), { denied: "ADDRESS_REQUIRED", missing_scopes: [] });
  const bind = { op: "bind_session", session_id: "s", key: "k", ttl_ms: 60_000 };
  assert.equal(await verdictOf({ ...bind, client_address }), "ADDRESS_NOT_ALLOWED");
  assert.equal(fake.callsOf(SessionService.method.bindSession)[0]?.request.clientAddress, client_address);
  const batch = { op: "validate_keys", keys: ["k", "l"] };
  await ask({ ...batch, client_address });
  const sent = fake.callsOf(batchValidateKeys)[0]?.request.requests.map((request) => request.clientAddress);
  assert.deepEqual(sent, [client_address, client_address]);
  const error = { error: "INVALID_ARGUMENT", fields: ["client_address"] };
  for (const command of [{ op: "validate_key", key: "k" }, session, required, bind])
    assert.deepEqual(await ask({ ...command, client_address: "x" }), error);
  assert.deepEqual(await ask({ ...batch, client_address: "x" }), { items: [error, error] });
});

test("conformance: limits", async (t) => {
  const { fake, ask } = await running(t, { TENANT_AUTH_NEAR_CACHE: "off" });
  const { consume, batchConsume, reserve, settle, cancel, getLimitState } = LimitService.method;
  const costs = [{ metric: "requests", amount: 2 }];
  const limit = {
    name: "hourly",
    metric: "requests",
    limit: 10,
    window_ms: 3_600_000,
    reset_after_ms: 1_800_000,
  };
  const admitted = { ...limit, remaining: 7, retry_after_ms: null, decided_by: "LEASE" };
  const limits = [{ ...admitted, exceeded: false, shadow: false }];
  const valid = { ...good, source: "FRESH", allowed: true, limits };
  fake.answer(consume, () => limited());
  const asked = { op: "consume", key: "k", scopes: ["a"], costs, consume_id: "c-1", timeout_ms: 5000 };
  assert.deepEqual(await ask(asked), { ...valid, already_consumed: false });
  const sent = fake.callsOf(consume)[0]?.request;
  assert.deepEqual(
    [sent?.consumeId, sent?.costs[0]?.amount, sent?.credential?.credential.case],
    ["c-1", 2n, "key"],
  );
  fake.answer(consume, () => limited(Verdict.QUOTA_EXCEEDED, [exceeded()]));
  const denied = { ...valid, verdict: "QUOTA_EXCEEDED", allowed: false, already_consumed: false };
  const refused = { ...admitted, remaining: 0, retry_after_ms: 1500, exceeded: true, shadow: false };
  assert.deepEqual(await ask({ op: "consume", session_id: "s", costs }), { ...denied, limits: [refused] });
  assert.equal(fake.callsOf(consume)[1]?.request.credential?.credential.case, "session");
  fake.answer(batchConsume, () => ({
    results: [
      { result: { case: "response" as const, value: limited() } },
      { result: { case: "error" as const, value: { code: 14, message: "no answer" } } },
    ],
  }));
  const items = [{ ...valid, age_ms: 0, already_consumed: false }, { error: "UNAVAILABLE" }];
  const one = { key: "k", costs };
  assert.deepEqual(await ask({ op: "consume_many", requests: [one, one] }), { items });
  fake.answer(reserve, () => reserved(30_000));
  const held = { ...valid, reservation_id: "r-1", expires_in_ms: 30_000, already_reserved: false };
  assert.deepEqual(await ask({ op: "reserve", key: "k", costs, reservation_id: "r-1" }), held);
  fake.answer(settle, () => ({ state: 2, limits: [{ name: "hourly", metric: "requests", reserved: 2n }] }));
  assert.deepEqual(await ask({ op: "settle", reservation_id: "r-1", actual: [] }), {
    state: "SETTLED",
    already_settled: false,
    limits: [{ name: "hourly", metric: "requests", reserved: 2, charged: 0, exceeded_by: 0 }],
  });
  fake.answer(cancel, () => ({ state: 3 }));
  assert.deepEqual(await ask({ op: "cancel", reservation_id: "r-1" }), { state: "CANCELLED" });
  fake.answer(getLimitState, () => ({
    limits: [{ limit: { name: "hourly", metric: "requests" }, used: 3n }],
  }));
  const amounts = { used: 3, leased: 0, reserved: 0, unaccounted: 0, remaining: 0 };
  assert.deepEqual(await ask({ op: "limit_state", tenant_id: "ten_1" }), {
    limits: [{ name: "hourly", metric: "requests", ...amounts, reset_after_ms: null }],
  });
});

test("conformance: sessions, usage and other commands", async (t) => {
  const { fake, ask } = await running(t);
  fake.answer(SessionService.method.bindSession, ({ sessionId }) => ({
    verdict: Verdict.VALID,
    session: { sessionId, tenantId: "ten_1", keyId: "key_1" },
  }));
  const bind = { op: "bind_session", session_id: "s", key: "k", ttl_ms: 60_000, attributes: {} };
  const { missing_scopes: _, plan: _plan, ...bound } = good;
  assert.deepEqual(await ask(bind), { ...bound, already_bound: false });
  fake.answer(validateSession, () => ({ ...keyAnswer(), attributes: { a: "b" } }));
  assert.deepEqual(await ask({ op: "validate_session", session_id: "s", key: "k" }), {
    ...good,
    source: "FRESH",
    presented_key_id: "",
    attributes: { a: "b" },
  });
  fake.answer(SessionService.method.unbindSession, () => ({ wasBound: true }));
  assert.deepEqual(await ask({ op: "unbind_session", session_id: "s", tenant_id: "ten_1" }), {
    was_bound: true,
  });
  fake.answer(UsageService.method.recordUsage, () => ({
    accepted: 1,
    rejected: [{ index: 0, error: { code: 5, message: "no such tenant" } }],
  }));
  const event = { tenant_id: "ten_1", metric: "api.calls", quantity: 1 };
  const recorded = { accepted: 1, rejected: [{ index: 0, error: "NOT_FOUND" }], already_recorded: false };
  assert.deepEqual(await ask({ op: "record_usage", request_id: "r", events: [event, event] }), recorded);
  assert.equal(fake.callsOf(UsageService.method.recordUsage)[0]?.request.requestId, "r");
  fake.answer(UsageService.method.queryUsage, () => ({
    sums: [{ metric: "api.calls", bucketStart: timestampFromMs(3600_000), quantity: 7n }],
  }));
  const query = {
    op: "query_usage",
    tenant_id: "ten_1",
    metric: "api.calls",
    start_ms: 0,
    end_ms: 7200_000,
    bucket: "HOUR",
  };
  assert.deepEqual(await ask(query), {
    sums: [{ metric: "api.calls", bucket_start_ms: 3600_000, quantity: 7 }],
  });
  await until("a watch is opened", () => fake.watches.length === 1);
  fake.watches[0]?.heartbeat(12n);
  await until("it is live", async () => {
    const state = (await ask({ op: "watch_state" })) as { live: boolean };
    return state.live;
  });
  assert.deepEqual(await ask({ op: "watch_state" }), { live: true, revision: 12 });
  fake.answer(InfoService.method.getServerInfo, () => ({ version: "1.2.3" }));
  assert.equal(((await ask({ op: "server_info" })) as { version: string }).version, "1.2.3");
  assert.deepEqual(await ask({ op: "juggle" }), { error: "UNSUPPORTED" });
});

test("conformance: commands run concurrently, and close waits for all", async (t) => {
  const { fake, runner, ask } = await running(t, { TENANT_AUTH_NEAR_CACHE: "off" });
  const hold = gate();
  fake.answer(validateKey, async ({ key }) => {
    if (key === "slow") await hold.passed;
    return keyAnswer();
  });
  const slow = ask({ op: "validate_key", key: "slow", timeout_ms: 20_000 });
  assert.deepEqual(await ask({ op: "validate_key", key: "quick" }), { ...good, source: "FRESH" });
  runner.write('{"op":"close"}\n');
  hold.open();
  await slow;
  assert.equal(await runner.ended, 0);
  assert.equal(runner.lines.at(-1), '{"closed":true}');
});
