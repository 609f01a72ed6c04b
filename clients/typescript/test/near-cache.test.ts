import assert from "node:assert/strict";
import { test } from "node:test";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { keyAnswer, unavailable, unknownKey } from "./support/answers.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";

const { validateKey, validateSession } = ValidationService.method;
const noWatch = { nearCache: { watch: false } };

test("the lifetime of an answer counts from before its request", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  fake.answer(validateKey, () => {
    clock.advance(1000);
    return keyAnswer({ cacheableForMs: 5000, ageMs: 300 });
  });
  assert.equal((await client.validateKey("k")).source, "FRESH");
  clock.advance(3999);
  const near = await client.validateKey("k");
  assert.equal(near.source, "NEAR");
  assert.equal(near.ageMs, 300 + 4999);
  assert.equal(near.cacheableForMs, 1);
  clock.advance(1);
  assert.equal((await client.validateKey("k")).source, "FRESH");
  assert.equal(fake.calls.length, 2);
});

test("a read does not extend the lifetime", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 1000 }));
  for (let read = 0; read < 10; read += 1) {
    await client.validateKey("k");
    clock.advance(100);
  }
  assert.equal(fake.calls.length, 1);
  await client.validateKey("k");
  assert.equal(fake.calls.length, 2);
});

test("answers expire while the machine is suspended", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 1000 }));
  await client.validateKey("k");
  clock.jump(1000);
  assert.equal((await client.validateKey("k")).source, "FRESH");
});

test("uncacheable answers are not cached", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 0 }));
  await client.validateKey("k");
  await client.validateKey("k");
  assert.equal(fake.calls.length, 2);
});

test("expiry is not compared with the client's clock", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ expiresAt: clock.now() - 60_000, cacheableForMs: 500 }));
  await client.validateKey("k");
  clock.advance(499);
  assert.equal((await client.validateKey("k")).source, "NEAR");
  clock.advance(1);
  assert.equal((await client.validateKey("k")).source, "FRESH");
});

test("negative answers do not evict others", async (t) => {
  const { fake, client } = await connected(t, { nearCache: { watch: false, capacity: 20 } });
  fake.answer(validateKey, ({ key }) => (key === "k" ? keyAnswer() : unknownKey(5000)));
  await client.validateKey("k");
  for (let index = 0; index < 100; index += 1) await client.validateKey(`unknown-${index}`);
  assert.equal((await client.validateKey("k")).source, "NEAR");
  assert.equal((await client.validateKey("unknown-99")).source, "NEAR");
  assert.equal((await client.validateKey("unknown-97")).source, "NEGATIVE");
});

test("one answer serves all scopes", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  const held = { scopes: ["a", "b"] };
  fake.answer(validateKey, () =>
    keyAnswer({ ...held, verdict: Verdict.INSUFFICIENT_SCOPE, missingScopes: ["z"] }),
  );
  const first = await client.validateKey("k", { scopes: ["z"] });
  assert.deepEqual(
    [first.verdict, first.missingScopes, first.source],
    ["INSUFFICIENT_SCOPE", ["z"], "FRESH"],
  );
  const good = await client.validateKey("k", { scopes: ["b", "a"] });
  assert.deepEqual([good.verdict, good.valid, good.missingScopes, good.source], ["VALID", true, [], "NEAR"]);
  const lacking = await client.validateKey("k", { scopes: ["y", "a", "x", "y"] });
  assert.deepEqual([lacking.verdict, lacking.valid], ["INSUFFICIENT_SCOPE", false]);
  assert.deepEqual(lacking.missingScopes, ["x", "y"]);
  assert.equal(fake.calls.length, 1);
});

test("invalid scopes are left to the service", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer());
  await client.validateKey("k");
  await client.validateKey("k", { scopes: [""] });
  await client.validateKey("k", { scopes: ["Orders"] });
  await client.validateKey("k", { scopes: Array.from({ length: 33 }, (_, n) => `s${n}`) });
  assert.equal(fake.calls.length, 4);
});

test("a denial is cached for other scopes too", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, scopes: ["a"] }));
  await client.validateKey("k");
  const again = await client.validateKey("k", { scopes: ["a"] });
  assert.deepEqual([again.verdict, again.valid, again.source], ["REVOKED", false, "NEAR"]);
});

test("concurrent requests for one key are one call, for any scopes", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    return keyAnswer({ scopes: ["s0", "s1"] });
  });
  const asked = Array.from({ length: 1000 }, (_, n) => client.validateKey("k", { scopes: [`s${n % 3}`] }));
  hold.open();
  const verdicts = (await Promise.all(asked)).map(({ verdict }) => verdict);
  assert.equal(verdicts.filter((verdict) => verdict === "VALID").length, 667);
  assert.equal(verdicts.filter((verdict) => verdict === "INSUFFICIENT_SCOPE").length, 333);
  assert.equal(fake.calls.length, 1);
});

test("a caller that gives up does not cancel the call for others", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    return keyAnswer();
  });
  const imlong = new AbortController();
  const first = client.validateKey("k", { signal: imlong.signal });
  const second = client.validateKey("k");
  await until("the call is there", () => fake.calls.length === 1);
  imlong.abort(new Error("gone"));
  await assert.rejects(first, /gone/);
  hold.open();
  assert.equal((await second).verdict, "VALID");
  assert.equal(fake.calls.length, 1);
});

test("a short timeout does not affect other callers", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    return keyAnswer();
  });
  const short = failure(client.validateKey("k", { timeoutMs: 50 }));
  const long = client.validateKey("k", { timeoutMs: 5000 });
  await until("the call is there", () => fake.calls.length === 1);
  clock.advance(50);
  assert.equal((await short).kind, "deadline");
  hold.open();
  assert.equal((await long).verdict, "VALID");
  assert.equal(fake.calls.length, 1);
});

test("an error is shared but not cached", async (t) => {
  const { fake, client } = await connected(t, { ...noWatch, retryBudget: 0 });
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    throw unavailable();
  });
  const both = [failure(client.validateKey("k")), failure(client.validateKey("k"))];
  hold.open();
  for (const error of await Promise.all(both)) assert.equal(error.reason, "DATABASE_TIMED_OUT");
  assert.equal(fake.calls.length, 1);
  fake.answer(validateKey, () => keyAnswer());
  assert.equal((await client.validateKey("k")).source, "FRESH");
});

test("the least recently used answer is evicted", async (t) => {
  const { fake, client } = await connected(t, { nearCache: { watch: false, capacity: 2 } });
  fake.answer(validateKey, () => keyAnswer());
  for (const key of ["a", "b", "a", "c"]) await client.validateKey(key);
  assert.equal((await client.validateKey("a")).source, "NEAR");
  assert.equal((await client.validateKey("b")).source, "FRESH");
});

test("without the near cache every request is a call", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, () => keyAnswer());
  await Promise.all([client.validateKey("k"), client.validateKey("k")]);
  assert.equal(fake.calls.length, 2);
  assert.equal(fake.watches.length, 0);
  assert.deepEqual(client.watchState(), { live: false, revision: 0n });
});

test("a caller cannot modify cached answers", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  const end = clock.now() + 60_000;
  fake.answer(validateKey, () => keyAnswer({ expiresAt: end }));
  await client.validateKey("k");
  (await client.validateKey("k")).expiresAt?.setTime(0);
  const scopes = (await client.validateKey("k")).scopes as string[];
  assert.throws(() => scopes.push("admin"), TypeError);
  const answer = await client.validateKey("k", { scopes: ["admin"] });
  assert.equal(answer.verdict, "INSUFFICIENT_SCOPE");
  assert.equal(answer.expiresAt?.getTime(), end);
});

test("a negative answer is cached for its own lifetime", async (t) => {
  const { fake, client, clock } = await connected(t, noWatch);
  fake.answer(validateKey, () => unknownKey(1000));
  await client.validateKey("k");
  assert.equal((await client.validateKey("k")).source, "NEAR");
  clock.advance(1000);
  await client.validateKey("k");
  assert.equal(fake.calls.length, 2);
});

test("a session is cached per presented key", async (t) => {
  const { fake, client } = await connected(t, noWatch);
  fake.answer(validateSession, ({ key }) =>
    key === "other" ? { verdict: Verdict.TENANT_MISMATCH } : { ...keyAnswer(), attributes: { client: "x" } },
  );
  await client.validateSession("s", { key: "k" });
  const near = await client.validateSession("s", { key: "k", scopes: ["orders:read"] });
  assert.deepEqual([near.verdict, near.source, near.attributes], ["VALID", "NEAR", { client: "x" }]);
  assert.equal((await client.validateSession("s", { key: "other" })).verdict, "TENANT_MISMATCH");
  assert.equal((await client.validateSession("s")).source, "FRESH");
  assert.equal(fake.calls.length, 3);
});
