import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { Client } from "../src/client.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { keyAnswer, unknownKey } from "./support/answers.js";
import { Fake, Refused } from "./support/fake.js";
import { InvalidationScope } from "./support/fake-watch.js";
import { ManualClock } from "./support/manual-clock.js";
import { connected } from "./support/setup.js";
import { gate, until } from "./support/until.js";
import { heartbeat, opened, pass, watched } from "./support/watched.js";

const { validateKey, validateSession } = ValidationService.method;

test("the watched lifetime applies while the stream is live", async (t) => {
  const { fake, client, clock, watch } = await watched(t);
  await client.validateKey("1");
  await pass(client, watch, clock, 59);
  const near = await client.validateKey("1");
  assert.deepEqual([near.source, near.ageMs, near.cacheableForMs], ["NEAR", 59_000, 0]);
  await pass(client, watch, clock, 1);
  assert.equal((await client.validateKey("1")).source, "FRESH");
  assert.equal(fake.calls.length, 2);
});

test("a request before the stream has no watched lifetime", async (t) => {
  const { fake, client, clock } = await connected(t);
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 1000 }));
  await client.validateKey("1");
  const watch = await opened(fake, 0);
  await heartbeat(client, watch, 10n);
  clock.advance(1000);
  assert.equal((await client.validateKey("1")).source, "FRESH");
});

test("a negative answer has no watched lifetime", async (t) => {
  const { fake, client, clock } = await watched(t);
  fake.answer(validateKey, () => unknownKey(1000));
  await client.validateKey("u");
  clock.advance(1000);
  await client.validateKey("u");
  assert.equal(fake.calls.length, 2);
});

for (const verdict of ["REVOKED", "EXPIRED", "TENANT_SUSPENDED"] as const) {
  test(`${verdict} has the watched lifetime`, async (t) => {
    const { fake, client, clock } = await watched(t);
    fake.answer(validateKey, () => keyAnswer({ verdict: Verdict[verdict], cacheableForMs: 1000 }));
    await client.validateKey("r");
    clock.advance(2999);
    const near = await client.validateKey("r");
    assert.deepEqual([near.verdict, near.source], [verdict, "NEAR"]);
  });
}

test("watchedForMs shortens the lifetime and never extends it", async (t) => {
  const { fake, client, clock } = await connected(t, { nearCache: { watchedForMs: 2000 } });
  fake.answer(validateKey, ({ key }) =>
    keyAnswer({ keyId: key, cacheableForMs: key === "long" ? 9000 : 1000 }),
  );
  const watch = await opened(fake, 0);
  await heartbeat(client, watch, 10n);
  for (const key of ["long", "short"]) await client.validateKey(key);
  clock.advance(1999);
  assert.equal((await client.validateKey("short")).source, "NEAR");
  clock.advance(1);
  assert.equal((await client.validateKey("short")).source, "FRESH");
  assert.equal((await client.validateKey("long")).source, "NEAR");
});

test("an answer without watched lifetime uses its own lifetime", async (t) => {
  const { fake, client, clock } = await watched(t);
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 1000, watchedForMs: 0 }));
  await client.validateKey("1");
  clock.advance(1000);
  await client.validateKey("1");
  assert.equal(fake.calls.length, 2);
});

test("an answer cacheable only while watched is cached", async (t) => {
  const { fake, client } = await watched(t);
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 0, watchedForMs: 5000 }));
  await client.validateKey("1");
  assert.equal((await client.validateKey("1")).source, "NEAR");
});

test("an answer below the first stream revision has no watched lifetime", async (t) => {
  const { fake, client, clock } = await watched(t);
  fake.answer(validateKey, () => keyAnswer({ revision: 9n, cacheableForMs: 1000 }));
  await client.validateKey("1");
  clock.advance(1000);
  assert.equal((await client.validateKey("1")).source, "FRESH");
});

test("the presented key is a subject of a session", async (t) => {
  const { fake, client, watch } = await watched(t);
  fake.answer(validateSession, () => ({
    ...keyAnswer({ keyId: "key_opener" }),
    presentedKeyId: "key_second",
  }));
  const asked = { key: "k" };
  assert.equal((await client.validateSession("s", asked)).presentedKeyId, "key_second");
  assert.equal((await client.validateSession("s", asked)).source, "NEAR");
  watch.invalidate(InvalidationScope.KEY, "key_second", 11n);
  await heartbeat(client, watch, 12n);
  assert.equal((await client.validateSession("s", asked)).source, "FRESH");
});

test("three seconds of silence end the watched lifetime and reopen the stream", async (t) => {
  const { fake, client, clock } = await watched(t);
  await client.validateKey("1");
  clock.advance(3000);
  const next = await opened(fake, 1, clock);
  assert.equal(next.resumeAfter, 10n);
  assert.equal(client.watchState().live, false);
  // The stream is live again, but not without a gap.
  await heartbeat(client, next, 11n);
  assert.equal(client.watchState().live, true);
  assert.equal((await client.validateKey("1")).source, "FRESH");
});

test("an invalidation removes only older answers", async (t) => {
  const { fake, client, watch } = await watched(t);
  for (const key of ["1", "2"]) await client.validateKey(key);
  watch.invalidate(InvalidationScope.KEY, "key_1", 10n);
  await heartbeat(client, watch, 11n);
  assert.equal((await client.validateKey("1")).source, "NEAR");
  watch.invalidate(InvalidationScope.KEY, "key_1", 12n);
  await heartbeat(client, watch, 13n);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 12n }));
  const revoked = await client.validateKey("1");
  assert.deepEqual([revoked.verdict, revoked.source], ["REVOKED", "FRESH"]);
  assert.equal((await client.validateKey("2")).source, "NEAR");
});

test("a tenant's invalidation removes its keys and sessions", async (t) => {
  const { fake, client, watch } = await watched(t);
  fake.answer(validateSession, () => keyAnswer());
  for (const key of ["1", "2"]) await client.validateKey(key);
  await client.validateSession("s");
  watch.invalidate(InvalidationScope.TENANT, "ten_1", 11n);
  await heartbeat(client, watch, 12n);
  for (const key of ["1", "2"]) assert.equal((await client.validateKey(key)).source, "FRESH");
  assert.equal((await client.validateSession("s")).source, "FRESH");
});

test("a session's invalidation removes it for every key", async (t) => {
  const { fake, client, watch } = await watched(t);
  fake.answer(validateSession, () => keyAnswer());
  await client.validateSession("s");
  await client.validateSession("s", { key: "k" });
  await client.validateSession("other");
  watch.invalidate(InvalidationScope.SESSION, "s", 11n);
  await heartbeat(client, watch, 12n);
  assert.equal((await client.validateSession("s")).source, "FRESH");
  assert.equal((await client.validateSession("s", { key: "k" })).source, "FRESH");
  assert.equal((await client.validateSession("other")).source, "NEAR");
});

test("a superseded answer is returned but not cached", async (t) => {
  const { fake, client, watch } = await watched(t);
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    return keyAnswer({ revision: 10n });
  });
  const asked = client.validateKey("1");
  await until("the call is there", () => fake.calls.length === 1);
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  await heartbeat(client, watch, 12n);
  hold.open();
  assert.equal((await asked).verdict, "VALID");
  fake.answer(validateKey, () => keyAnswer({ revision: 11n }));
  assert.equal((await client.validateKey("1")).source, "FRESH");
  assert.equal((await client.validateKey("1")).source, "NEAR");
});

test("a request after a change does not get an earlier answer", async (t) => {
  const { fake, client, watch } = await watched(t);
  const holds = [gate(), gate()];
  fake.answer(validateKey, async () => {
    const call = fake.calls.length;
    await holds[call - 1]?.passed;
    return call === 1 ? keyAnswer() : keyAnswer({ verdict: Verdict.REVOKED, revision: 11n });
  });
  const before = client.validateKey("1");
  await until("the call is there", () => fake.calls.length === 1);
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  await heartbeat(client, watch, 12n);
  const after = [client.validateKey("1"), client.validateKey("1")];
  for (const hold of holds) hold.open();
  assert.equal((await before).verdict, "VALID");
  for (const answer of await Promise.all(after)) assert.equal(answer.verdict, "REVOKED");
  assert.equal(fake.calls.length, 2);
});

test("an answer of a lagging replica is not cached", async (t) => {
  const { fake, client, watch } = await watched(t);
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  await heartbeat(client, watch, 12n);
  for (let ask = 0; ask < 2; ask += 1) assert.equal((await client.validateKey("1")).source, "FRESH");
  assert.equal(fake.calls.length, 2);
});

test("a stream resumed in time is continuous", async (t) => {
  const { fake, client, clock, watch } = await watched(t);
  await client.validateKey("1");
  clock.advance(1000);
  watch.fail(new Refused(status.UNAVAILABLE, "drained"));
  await until("the client waits a moment", () => clock.nextIn <= 100);
  clock.advance(100);
  const next = await opened(fake, 1);
  assert.equal(next.resumeAfter, 10n);
  await heartbeat(client, next, 11n);
  assert.equal((await client.validateKey("1")).source, "NEAR");
});

test("without a resume revision a new stream starts a new epoch", async (t) => {
  const { fake, client, clock } = await connected(t);
  fake.answer(validateKey, () => keyAnswer({ revision: 0n, cacheableForMs: 100 }));
  const watch = await opened(fake, 0);
  watch.heartbeat(0n);
  await until("the heartbeat is applied", () => client.watchState().live);
  await client.validateKey("1");
  watch.end();
  const next = await opened(fake, 1, clock);
  next.heartbeat(0n);
  await until("the heartbeat is applied", () => client.watchState().live);
  clock.advance(100);
  assert.equal((await client.validateKey("1")).source, "FRESH");
});

for (const event of ["startOver", "unheardOf"] as const) {
  test(`${event}: the cache and requests in flight are cleared`, async (t) => {
    const { fake, client, watch } = await watched(t);
    const hold = gate();
    await client.validateKey("1");
    fake.answer(validateKey, async () => {
      await hold.passed;
      return keyAnswer({ revision: 99n });
    });
    const asked = client.validateKey("2");
    await until("the call is there", () => fake.calls.length === 2);
    watch[event](5n);
    await until("the event is applied", () => client.watchState().revision === 5n);
    hold.open();
    await asked;
    assert.equal((await client.validateKey("2")).source, "FRESH");
    assert.equal((await client.validateKey("1")).source, "FRESH");
  });
}

test("an unknown invalidation scope clears the cache", async (t) => {
  const { client, watch } = await watched(t);
  await client.validateKey("1");
  watch.invalidate(99 as InvalidationScope, "x", 11n);
  await until("it is applied", () => client.watchState().revision === 11n);
  assert.equal((await client.validateKey("1")).source, "FRESH");
});

test("an unimplemented watch is retried once per minute", async (t) => {
  const fake = await Fake.start();
  fake.servesWatch = false;
  const clock = new ManualClock();
  const client = new Client(fake.endpoint, { clock, timeoutMs: 10_000 });
  t.after(() => {
    client.close();
    fake.close();
  });
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 1000 }));
  await opened(fake, 0);
  await until("the client waits", () => clock.nextIn === 60_000);
  await client.validateKey("1");
  assert.equal((await client.validateKey("1")).source, "NEAR");
  clock.advance(1000);
  assert.equal((await client.validateKey("1")).source, "FRESH");
  clock.advance(58_999);
  assert.equal(fake.watches.length, 1);
  fake.servesWatch = true;
  clock.advance(1);
  const watch = await opened(fake, 1);
  await heartbeat(client, watch, 10n);
  assert.equal(client.watchState().live, true);
});

test("a replica that does not follow the change log is retried once per minute", async (t) => {
  const fake = await Fake.start();
  fake.servesWatch = false;
  fake.withoutWatch = status.FAILED_PRECONDITION;
  const clock = new ManualClock();
  const client = new Client(fake.endpoint, { clock });
  t.after(() => {
    client.close();
    fake.close();
  });
  await opened(fake, 0);
  await until("the client waits", () => clock.nextIn === 60_000);
  assert.equal(client.watchState().live, false);
});

test("a closed client has ended its stream", async (t) => {
  const { client, clock, watch } = await watched(t);
  client.close();
  await until("the watch is cancelled", () => watch.cancelled);
  assert.equal(client.watchState().live, false);
  assert.equal(clock.waiting, 0);
});
