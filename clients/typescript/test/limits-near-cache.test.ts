import assert from "node:assert/strict";
import { test } from "node:test";
import { LimitService } from "../src/gen/tenantauth/v1/limit_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { keyAnswer } from "./support/answers.js";
import { InvalidationScope } from "./support/fake-watch.js";
import { decision, exceeded, limited } from "./support/limit-answers.js";
import { connected } from "./support/setup.js";
import { heartbeat, watched } from "./support/watched.js";

const { consume, batchConsume } = LimitService.method;
const { validateKey } = ValidationService.method;
const one = [{ metric: "requests", amount: 1 }];

test("limits: a consumption is never answered from the near cache, and is no weaker than it", async (t) => {
  const { fake, client, watch } = await watched(t);
  fake.answer(consume, () => limited(Verdict.VALID, [decision()], { keyId: "key_k" }));
  assert.equal((await client.validateKey("k")).verdict, "VALID");
  assert.equal((await client.limits.consume("k", one)).verdict, "VALID");
  assert.equal((await client.limits.consume("k", one)).verdict, "VALID");
  assert.deepEqual([fake.callsOf(consume).length, fake.callsOf(validateKey).length], [2, 1]);
  // The replica that decides has not read the revocation yet.
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, keyId: "key_k", revision: 20n }));
  watch.invalidate(InvalidationScope.KEY, "key_k", 20n);
  await heartbeat(client, watch, 21n);
  const late = await client.limits.consume("k", one);
  assert.deepEqual([late.verdict, late.allowed, late.limits], ["REVOKED", false, []]);
  fake.answer(batchConsume, () => ({
    results: ["key_k", "key_l"].map((keyId) => ({
      result: { case: "response" as const, value: limited(Verdict.VALID, [decision()], { keyId }) },
    })),
  }));
  const batch = await client.limits.consumeMany([
    { credential: "k", costs: one },
    { credential: "l", costs: one },
  ]);
  assert.deepEqual(
    batch.map((outcome) => "verdict" in outcome && outcome.verdict),
    ["REVOKED", "VALID"],
  );
  assert.equal(late.validation.verdict, "REVOKED");
});

test("limits: a later denial in the near cache also counts without the watch stream", async (t) => {
  const { fake, client } = await connected(t, { nearCache: { watch: false } });
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 20n }));
  fake.answer(consume, () => limited(Verdict.QUOTA_EXCEEDED, [exceeded()]));
  assert.equal((await client.validateKey("k")).verdict, "REVOKED");
  assert.equal((await client.limits.consume("k", one)).verdict, "REVOKED");
  assert.equal(fake.callsOf(validateKey).length, 1);
  fake.answer(consume, () => limited(Verdict.VALID, [], { revision: 30n }));
  assert.equal((await client.limits.consume("k", one)).verdict, "VALID");
});

test("limits: consumptions leave the near cache as it is", async (t) => {
  const { fake, client } = await connected(t, { nearCache: { watch: false } });
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(consume, () => limited());
  await client.validateKey("k");
  await client.limits.consume("k", one);
  assert.equal((await client.validateKey("k")).source, "NEAR");
});
