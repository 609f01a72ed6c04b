import assert from "node:assert/strict";
import { test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { type DecidedBy, LimitService } from "../src/gen/tenantauth/v1/limit_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { LimitCredential } from "../src/limits/credential.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { decision, exceeded, invalidKey, limited } from "./support/limit-answers.js";
import { connected, failure } from "./support/setup.js";
import { until } from "./support/until.js";

const { consume, batchConsume, getLimitState } = LimitService.method;
const plain = { nearCache: false };
const one = [{ metric: "requests", amount: 1 }];

test("limits: a consumption has the verdict, the validation and what each limit says", async (t) => {
  const { fake, client } = await connected(t, plain);
  const windowStart = timestampFromMs(Date.UTC(2026, 0, 1));
  fake.answer(consume, () => limited(Verdict.VALID, [decision({ windowStart }), exceeded({ shadow: true })]));
  const query = { key: "k", scopes: ["orders:read"], clientAddress: "192.0.2.7" };
  const outcome = await client.limits.consume(query, [...one, { metric: "tokens", amount: 500n }]);
  assert.deepEqual([outcome.verdict, outcome.allowed, outcome.alreadyConsumed], ["VALID", true, false]);
  assert.equal(outcome.validation.tenantId, "ten_1");
  assert.equal(outcome.principal?.keyId, "key_1");
  assert.equal(outcome.retryAfterMs, undefined, "a shadow limit denies nothing");
  const limit = {
    name: "hourly",
    metric: "requests",
    limit: 10,
    windowMs: 3_600_000,
    resetAfterMs: 1_800_000,
  };
  assert.deepEqual(
    outcome.limits.map((said) => ({ ...said })),
    [
      {
        ...limit,
        remaining: 7,
        decidedBy: "LEASE",
        exceeded: false,
        shadow: false,
        windowStart: new Date(Date.UTC(2026, 0, 1)),
      },
      { ...limit, remaining: 0, retryAfterMs: 1500, decidedBy: "LEASE", exceeded: true, shadow: true },
    ],
  );
  const [sent] = fake.callsOf(consume);
  const credential = sent?.request.credential?.credential;
  assert.ok(credential?.case === "key");
  const { key, requiredScopes, clientAddress } = credential.value;
  assert.deepEqual([key, requiredScopes, clientAddress], ["k", ["orders:read"], "192.0.2.7"]);
  assert.deepEqual(
    sent?.request.costs.map(({ metric, amount }) => [metric, amount]),
    [
      ["requests", 1n],
      ["tokens", 500n],
    ],
  );
});

test("limits: a session is sent with the key that is presented with it", async (t) => {
  const { fake, client } = await connected(t, plain);
  const value = { ...keyAnswer(), presentedKeyId: "key_2", attributes: { a: "b" } };
  fake.answer(consume, () => ({ verdict: Verdict.VALID, validation: { case: "session" as const, value } }));
  const { validation } = await client.limits.consume({ sessionId: "s", key: "k" }, one);
  assert.ok("attributes" in validation);
  assert.deepEqual([validation.presentedKeyId, validation.attributes], ["key_2", { a: "b" }]);
  const credential = fake.callsOf(consume)[0]?.request.credential?.credential;
  assert.ok(credential?.case === "session");
  assert.equal(credential.value.sessionId, "s");
});

test("limits: the retry delay is that of the limit that recovers last, if it is known", async (t) => {
  const { fake, client } = await connected(t, plain);
  const late = exceeded({ name: "daily", retryAfter: { seconds: 60n, nanos: 0 } });
  const never = exceeded({ name: "credits" });
  delete never.retryAfter;
  for (const [limits, expected] of [
    [[exceeded(), late, exceeded({ shadow: true, retryAfter: { seconds: 99n, nanos: 0 } })], 60_000],
    [[exceeded(), never], undefined],
    [[decision()], undefined],
  ] as const) {
    fake.answer(consume, () => limited(Verdict.QUOTA_EXCEEDED, [...limits]));
    const outcome = await client.limits.consume("k", one);
    assert.deepEqual([outcome.allowed, outcome.verdict], [false, "QUOTA_EXCEEDED"]);
    assert.equal(outcome.validation.valid, true);
    assert.equal(outcome.principal, undefined);
    assert.equal(outcome.retryAfterMs, expected);
  }
});

test("limits: verdicts and deciders that are new to the client are a denial and UNRECOGNIZED", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(consume, () => limited(99 as Verdict, [decision({ decidedBy: 99 as DecidedBy })]));
  const { allowed, verdict, limits } = await client.limits.consume("k", one);
  assert.deepEqual([allowed, verdict, limits[0]?.decidedBy], [false, "UNRECOGNIZED", "UNRECOGNIZED"]);
});

test("limits: only a consumption with an id is sent again", async (t) => {
  const { fake, client, clock } = await connected(t, plain);
  fake.answer(consume, () => Promise.reject(unavailable()));
  fake.answer(batchConsume, () => Promise.reject(unavailable()));
  assert.equal((await failure(client.limits.consume("k", one))).kind, "unavailable");
  assert.equal(fake.callsOf(consume).length, 1);
  const mixed = [
    { credential: "k", costs: one, consumeId: "c-1" },
    { credential: "k", costs: one },
  ];
  assert.equal((await failure(client.limits.consumeMany(mixed))).kind, "unavailable");
  assert.equal(fake.callsOf(batchConsume).length, 1);
  fake.answer(consume, () => {
    if (fake.callsOf(consume).length < 3) throw unavailable();
    return { ...limited(), alreadyConsumed: true };
  });
  const consuming = client.limits.consume("k", one, { consumeId: "c-1" });
  await until("it was sent again", () => {
    clock.advance(1);
    return fake.callsOf(consume).length === 3;
  });
  assert.equal((await consuming).alreadyConsumed, true);
  assert.deepEqual(
    fake.callsOf(consume).map(({ request }) => request.consumeId),
    ["", "c-1", "c-1"],
  );
  fake.answer(batchConsume, () => {
    if (fake.callsOf(batchConsume).length < 3) throw unavailable();
    return { results: [{ result: { case: "response" as const, value: limited() } }] };
  });
  const batch = client.limits.consumeMany(mixed.slice(0, 1));
  await until("the batch was sent again", () => {
    clock.advance(1);
    return fake.callsOf(batchConsume).length === 3;
  });
  assert.deepEqual(
    (await batch).map((outcome) => "verdict" in outcome && outcome.verdict),
    ["VALID"],
  );
});

test("limits: each request of a batch has its own outcome, in order", async (t) => {
  const { fake, client } = await connected(t, plain);
  const error = { code: status.INVALID_ARGUMENT, message: "no amount" };
  fake.answer(batchConsume, ({ requests }) => ({
    results: requests.map(({ costs }) =>
      costs[0]?.amount === 0n
        ? { result: { case: "error" as const, value: error } }
        : { result: { case: "response" as const, value: limited() } },
    ),
  }));
  const outcomes = await client.limits.consumeMany([
    { credential: "a", costs: one },
    { credential: "x".repeat(600), costs: one },
    { credential: "b", costs: [{ metric: "requests", amount: 0 }] },
    { credential: { key: "c", clientAddress: "nowhere" }, costs: one },
    { credential: "\ud800", costs: one },
    { credential: { sessionId: "s".repeat(1025) }, costs: one },
    { credential: "d", costs: one },
  ]);
  const fields = ["credential.key.client_address", "credential.key.key", "credential.session.session_id"];
  assert.deepEqual(
    outcomes.map((outcome) =>
      "verdict" in outcome ? outcome.verdict : (outcome.violations[0]?.field ?? outcome.code),
    ),
    ["VALID", "MALFORMED", "INVALID_ARGUMENT", ...fields, "VALID"],
  );
  assert.equal(fake.callsOf(batchConsume)[0]?.request.requests.length, 3);
  const many = Array.from({ length: 1001 }, () => ({ credential: "k", costs: one }));
  assert.deepEqual((await failure(client.limits.consumeMany(many))).violations[0]?.field, "requests");
});

test("limits: a key that is not valid has its verdict, and one that is too long is not sent", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(consume, () => invalidKey(Verdict.INSUFFICIENT_SCOPE, { missingScopes: ["a"] }));
  const poor = await client.limits.consume({ key: "k", scopes: ["a"] }, one);
  assert.deepEqual(
    [poor.verdict, poor.validation.missingScopes, poor.limits],
    ["INSUFFICIENT_SCOPE", ["a"], []],
  );
  const long = await client.limits.consume("x".repeat(9000), one);
  assert.deepEqual([long.verdict, long.allowed, long.limits], ["MALFORMED", false, []]);
  assert.equal(fake.callsOf(consume).length, 1);
});

test("limits: the state has the rule of each limit and what is used of it", async (t) => {
  const { fake, client } = await connected(t, plain);
  const limit = { subject: { subject: { case: "tenantId" as const, value: "ten_1" } }, metric: "requests" };
  const hour = { seconds: 3600n, nanos: 0 };
  const span = { resetAfter: hour, windowStart: timestampFromMs(5000) };
  const quota = { amount: 9n, window: { case: "rolling" as const, value: hour } };
  const credits = { initial: 5n, refill: { amount: 2n, every: 3, maxBalance: 8n } };
  fake.answer(getLimitState, () => ({
    limits: [
      {
        limit: { ...limit, name: "a", rule: { case: "quota" as const, value: quota } },
        used: 4n,
        leased: 2n,
        ...span,
      },
      {
        limit: {
          ...limit,
          name: "b",
          rule: { case: "credits" as const, value: credits },
          shadow: true,
          onOutage: 1,
        },
      },
      { limit: { ...limit, name: "c", rule: { case: "rate" as const, value: { amount: 3n } }, version: 7n } },
    ],
  }));
  const [a, b, c] = await client.limits.state({ tenantId: "ten_1" });
  assert.deepEqual(a?.limit.subject, { tenantId: "ten_1" });
  assert.deepEqual(a?.limit.rule, { kind: "quota", amount: 9, window: 3_600_000 });
  assert.deepEqual([a?.used, a?.leased, a?.remaining, a?.resetAfterMs], [4, 2, 0, 3_600_000]);
  assert.equal(a?.windowStart?.getTime(), 5000);
  const refill = { amount: 2, every: "MONTH", maxBalance: 8 };
  assert.deepEqual(b?.limit.rule, { kind: "credits", initial: 5, refill });
  assert.deepEqual([b?.limit.shadow, b?.limit.onOutage, b?.resetAfterMs], [true, "OPEN", undefined]);
  assert.deepEqual(c?.limit.rule, { kind: "rate", amount: 3, perMs: 1000, burst: 3 });
  assert.deepEqual([c?.limit.onOutage, c?.limit.version], ["CLOSED", 7n]);
  await client.limits.state({ keyId: "key_1" });
  const subjects = fake.callsOf(getLimitState).map(({ request }) => request.subject);
  assert.deepEqual(subjects, [
    { case: "tenantId", value: "ten_1" },
    { case: "keyId", value: "key_1" },
  ]);
});

test("limits: invalid arguments are rejected by name", async (t) => {
  const { fake, client } = await connected(t, plain);
  const { limits } = client;
  const wrong = (value: unknown): never => value as never;
  for (const [call, message] of [
    [() => limits.consume(wrong({ key: "k", scope: [] }), one), /credential: unknown option "scope"/],
    [() => limits.consume(wrong(5), one), /credential must be an object/],
    [() => limits.consume(wrong({}), one), /credential.key must be a string/],
    [() => limits.consume(wrong({ sessionId: 5 }), one), /credential.sessionId must be a string/],
    [
      () => limits.consume({ key: "k", scopes: wrong("a") }, one),
      /credential.scopes must be a list of texts/,
    ],
    [() => limits.consume("k", wrong({ requests: 1 })), /costs must be a list, such as \[\{ metric/],
    [() => limits.consume("k", [{ metric: "a", amount: 0.5 }]), /costs\[0\].amount must be a whole number/],
    [() => limits.consume("k", wrong([null])), /costs\[0\].metric must be a string/],
    [() => limits.consume("k", one, wrong({ id: "c" })), /options: unknown option "id"/],
    [() => limits.consume("k", one, { timeoutMs: 0 }), /timeoutMs must be more than 0/],
    [() => limits.consumeMany(wrong("k")), /requests must be a list/],
    [() => limits.consumeMany([wrong({ key: "k" })]), /requests\[0\]: unknown option "key"/],
    [() => limits.reserve("k", one, { onExpiry: wrong("charge") }), /onExpiry must be "RELEASE" or "CHARGE"/],
    [() => limits.reserve("k", one, { expiresInMs: -1 }), /expiresInMs must be a number of milliseconds/],
    [() => limits.settle("r", [{ metric: "a", amount: 1.5 }]), /actual\[0\].amount must be a whole number/],
    [() => limits.state(wrong({})), /must be those of \{ tenantId \} or \{ keyId \}/],
    [() => limits.state(wrong({ tenantId: "a", keyId: "b" })), /must be those of/],
    [async () => limits.local({ metric: "requests" }), /a local limiter needs the near cache/],
  ] as readonly [() => Promise<unknown>, RegExp][]) {
    await assert.rejects(call, (error) => error instanceof TypeError && message.test(error.message));
  }
  assert.equal(fake.calls.length, 0);
});

test("limits: a closed client rejects every call", async (t) => {
  const { client } = await connected(t, plain);
  client.close();
  const credential: LimitCredential = "k";
  const { limits } = client;
  for (const call of [
    limits.consume(credential, one),
    limits.consumeMany([{ credential, costs: one }]),
    limits.reserve(credential, one),
    limits.settle("r", []),
    limits.cancel("r"),
    limits.state({ tenantId: "t" }),
  ])
    assert.equal((await failure(call)).kind, "closed");
});
