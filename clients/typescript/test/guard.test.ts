import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { Client } from "../src/client.js";
import { DeniedError } from "../src/denied.js";
import { TenantAuthError } from "../src/error.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { StreamEnd } from "../src/guard/stream-end.js";
import type { Principal } from "../src/principal.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { InvalidationScope } from "./support/fake-watch.js";
import type { ManualClock } from "./support/manual-clock.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected } from "./support/setup.js";
import { gate, until } from "./support/until.js";
import { heartbeat, opened, pass, watched } from "./support/watched.js";

const { validateKey, validateSession } = ValidationService.method;
const { KEY, TENANT, SESSION } = InvalidationScope;

/** Guards nothing but a function, which keeps the end. */
function ends(client: Client, principal: Principal, options?: Parameters<Client["guard"]>[2]) {
  const all: StreamEnd[] = [];
  const guard = client.guard(principal, (end) => all.push(end), options);
  const ended = async (clock?: ManualClock): Promise<string> => {
    await until("the stream has ended", () => {
      clock?.advance(50);
      return all.length > 0;
    });
    assert.equal(all.length, 1);
    return all[0]?.code ?? "";
  };
  return { all, guard, ended };
}

/** Waits for a number of calls. */
const calls = (fake: { readonly calls: readonly unknown[] }, count: number): Promise<void> =>
  until(`there are ${count} calls`, () => fake.calls.length === count);

async function setup(t: TestContext) {
  const made = await watched(t);
  const principal = await made.client.requireKey("1", { scopes: ["orders:read"] });
  return { ...made, principal };
}

test("guard: a revoked key ends its streams at once, and no others", async (t) => {
  const { fake, client, watch, principal } = await setup(t);
  const other = ends(client, await client.requireKey("2"));
  const mine = ends(client, principal);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 11n }));
  watch.invalidate(KEY, "key_1", 11n);
  assert.equal(await mine.ended(), "REVOKED");
  const [{ error, detail } = {} as StreamEnd] = mine.all;
  assert.ok(error instanceof DeniedError && error.verdict === "REVOKED");
  assert.equal(detail, "The API key was revoked.");
  assert.deepEqual(other.all, []);
  await calls(fake, 3);
});

test("guard: a suspended tenant, an ended session and a lost scope end a stream", async (t) => {
  const { fake, client, watch, principal } = await setup(t);
  fake.answer(validateSession, () => keyAnswer({ keyId: "key_opener" }));
  const session = await client.requireSession("s", { key: "1" });
  const [byTenant, bySession, byScope] = [
    ends(client, principal),
    ends(client, session),
    ends(client, principal),
  ];
  const stays = ends(client, await client.requireKey("1"));
  await until("all are registered", () => fake.calls.length === 2);
  fake.answer(validateSession, () => ({ verdict: Verdict.UNBOUND }));
  watch.invalidate(SESSION, "s", 11n);
  assert.equal(await bySession.ended(), "UNBOUND");
  byTenant.guard.release();
  fake.answer(validateKey, () => keyAnswer({ keyId: "key_1", scopes: [], revision: 12n }));
  watch.invalidate(KEY, "key_1", 12n);
  assert.equal(await byScope.ended(), "INSUFFICIENT_SCOPE");
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.TENANT_SUSPENDED, revision: 13n }));
  assert.deepEqual(stays.all, []);
  watch.invalidate(TENANT, "ten_1", 13n);
  assert.equal(await stays.ended(), "TENANT_SUSPENDED");
  assert.deepEqual(byTenant.all, [], "it was released");
});

test("guard: a session ends with the key that opened it", async (t) => {
  const { fake, client, watch } = await watched(t);
  fake.answer(validateSession, () => keyAnswer({ keyId: "key_opener" }));
  const session = ends(client, await client.requireSession("s"));
  await until("it is validated", () => fake.calls.length === 1);
  fake.answer(validateSession, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 11n }));
  watch.invalidate(KEY, "key_opener", 11n);
  assert.equal(await session.ended(), "REVOKED");
});

test("guard: a change that leaves the key valid lets the stream go on, and so does starting over", async (t) => {
  const { fake, client, watch, principal } = await setup(t);
  const { all } = ends(client, principal, { scopes: ["orders:read"] });
  fake.answer(validateKey, () => keyAnswer({ keyId: "key_1", revision: 20n }));
  watch.invalidate(KEY, "key_1", 11n);
  await calls(fake, 2);
  watch.startOver(20n);
  await calls(fake, 3);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.DISABLED, revision: 21n }));
  watch.startOver(21n);
  await calls(fake, 4);
  await until("it has ended", () => all.length > 0);
  assert.equal(all[0]?.code, "DISABLED");
});

test("guard: after a change, a decision is made within a second, or the stream ends as undecided", async (t) => {
  const { fake, client, clock, watch, principal } = await setup(t);
  const { ended, all } = ends(client, principal);
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  watch.invalidate(KEY, "key_1", 11n);
  await calls(fake, 2);
  const start = clock.monotonic();
  assert.equal(await ended(clock), "UNDECIDED");
  assert.ok(clock.monotonic() - start <= 1100);
  assert.ok(all[0]?.error instanceof TenantAuthError);
});

test("guard: an answer that does not reflect the change yet is not believed", async (t) => {
  const { fake, client, clock, watch, principal } = await setup(t);
  const { ended, all } = ends(client, principal);
  // A replica that has not read the change answers first.
  fake.answer(validateKey, () => keyAnswer({ keyId: "key_1", revision: 10n }));
  watch.invalidate(KEY, "key_1", 11n);
  await calls(fake, 2);
  assert.equal(all.length, 0);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 11n }));
  assert.equal(await ended(clock), "REVOKED");
});

test("guard: a stream ends at the expiry, unless it was extended", async (t) => {
  const { fake, client, clock, watch } = await watched(t);
  const expiresAt = clock.now() + 10_000;
  fake.answer(validateKey, () => keyAnswer({ expiresAt, watchedForMs: 10_000 }));
  const { ended, all } = ends(client, await client.requireKey("1"));
  await pass(client, watch, clock, 9);
  fake.answer(validateKey, () => keyAnswer({ expiresAt: expiresAt + 5000, watchedForMs: 5000 }));
  await pass(client, watch, clock, 5);
  assert.equal(all.length, 0);
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  assert.equal(await ended(clock), "EXPIRED");
  assert.ok(all[0]?.error instanceof DeniedError);
});

test("guard: while the watch stream is down, keys are validated again every fresh period", async (t) => {
  const { fake, client, clock } = await connected(t, { nearCache: { watch: false } });
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 3000 }));
  const principal = await client.requireKey("1");
  const { ended } = ends(client, principal);
  const second = ends(client, principal);
  // The first validation is answered by the near cache.
  await setImmediate();
  for (let expected = 2; expected <= 4; expected += 1) {
    for (let at = 0; at < 3; at += 1) clock.advance(1000);
    await calls(fake, expected);
    await until("both are validated", () => clock.waiting === 1);
    await setImmediate();
  }
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED }));
  assert.equal(await ended(clock), "REVOKED");
  assert.equal(await second.ended(clock), "REVOKED");
});

test("guard: without a near cache, keys are validated again too", async (t) => {
  const { fake, client, clock } = await connected(t, { nearCache: false });
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: 0 }));
  const { ended } = ends(client, await client.requireKey("1"));
  await calls(fake, 2);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.EXPIRED }));
  assert.equal(await ended(clock), "EXPIRED");
});

test("guard: a stream that breaks off is tolerated for as long as the option says", async (t) => {
  const { fake, client, clock } = await connected(t, { nearCache: false, retryBudget: 0 });
  fake.answer(validateKey, () => keyAnswer());
  const { ended, all } = ends(client, await client.requireKey("1"), { toleranceMs: 4000 });
  await calls(fake, 2);
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  const start = clock.monotonic();
  assert.equal(await ended(clock), "UNDECIDED");
  const tookMs = clock.monotonic() - start;
  assert.ok(tookMs >= 9000 && tookMs < 12_000, `${tookMs} ms: the fresh period and the tolerance`);
  assert.ok(all[0]?.error instanceof TenantAuthError);
});

test("guard: a gap of the watch stream is made up for when it is live again", async (t) => {
  const { fake, client, clock, watch, principal } = await setup(t);
  const { ended } = ends(client, principal);
  // The change during the gap is on no stream that this client reads.
  watch.end();
  fake.answer(validateKey, () => keyAnswer({ keyId: "key_1", verdict: Verdict.REVOKED, revision: 30n }));
  clock.advance(3001);
  const again = await opened(fake, 1, clock);
  await heartbeat(client, again, 30n);
  assert.equal(await ended(clock), "REVOKED");
});

test("guard: idle guards cost no calls, and no timer beyond one each", async (t) => {
  const { fake, client, clock, watch } = await watched(t);
  const GUARDS = 10_000;
  const expiresAt = clock.now() + 3_600_000;
  fake.answer(validateKey, () => keyAnswer({ expiresAt }));
  const principal = await client.requireKey("1");
  const before = clock.waiting;
  const guards = Array.from({ length: GUARDS }, () => ends(client, principal).guard);
  await until("all are validated", () => clock.waiting >= before + GUARDS);
  assert.equal(clock.waiting, before + GUARDS + 1, "one timer each, and one for all");
  await pass(client, watch, clock, 60);
  assert.equal(fake.calls.length, 1);
  for (const guard of guards) guard.release();
  assert.equal(clock.waiting, before);
  watch.invalidate(KEY, "key_1", 1000n);
  await heartbeat(client, watch, 1001n);
  assert.equal(fake.calls.length, 1, "a released guard validates nothing");
});

test("guard: many keys are validated in turn after starting over", async (t) => {
  const { fake, client, watch } = await watched(t);
  const all = await Promise.all(Array.from({ length: 300 }, (_, at) => client.requireKey(String(at))));
  const guarded = all.map((principal) => ends(client, principal));
  let running = 0;
  let most = 0;
  fake.answer(validateKey, async ({ key }) => {
    running += 1;
    most = Math.max(most, running);
    await setImmediate();
    running -= 1;
    return keyAnswer({ keyId: `key_${key}`, revision: 50n });
  });
  watch.startOver(50n);
  await calls(fake, 600);
  assert.ok(most <= 100, `${most} at a time`);
  assert.deepEqual(
    guarded.flatMap((one) => one.all),
    [],
  );
});

test("guard: the wait for the validations of others counts", async (t) => {
  const { fake, client, clock, watch } = await watched(t);
  const all = await Promise.all(Array.from({ length: 300 }, (_, at) => client.requireKey(String(at))));
  const guarded = all.map((principal) => ends(client, principal, { toleranceMs: 1500 }));
  await setImmediate();
  fake.answer(validateKey, () => gate<never>().passed);
  watch.startOver(50n);
  await calls(fake, 400);
  const start = clock.monotonic();
  await until("all have ended", () => {
    if (clock.monotonic() - start < 2900) clock.advance(50);
    return guarded.every((one) => one.all.length === 1);
  });
  assert.deepEqual(new Set(guarded.map((one) => one.all[0]?.code)), new Set(["UNDECIDED"]));
});

test(
  "guard: when the real service stops, a stream is tolerated, then ends as undecided",
  withService,
  async (t) => {
    const { endpoint, key, program } = await startService(t);
    const client = clientOf(t, endpoint);
    const principal = await client.requireKey(key, { timeoutMs: 10_000 });
    const ended = new Promise<StreamEnd>((resolve) => {
      client.guard(principal, resolve, { toleranceMs: 1000 });
    });
    program.kill();
    assert.equal((await ended).code, "UNDECIDED");
  },
);

test("guard: closing the client ends its streams", async (t) => {
  const { client, principal } = await setup(t);
  const { ended } = ends(client, principal);
  client.close();
  assert.equal(await ended(), "UNDECIDED");
  assert.throws(() => ends(client, principal), { kind: "closed" });
});

test("guard: a copy of a principal has no key, and options are checked", async (t) => {
  const { client, principal } = await setup(t);
  const message = /the principal has no key to validate again/;
  assert.throws(() => client.guard({ ...principal }, () => undefined), { name: "TypeError", message });
  assert.throws(() => client.guard(structuredClone(principal), () => undefined), {
    name: "TypeError",
    message,
  });
  assert.throws(() => client.guard(undefined as never, () => undefined), { name: "TypeError", message });
  assert.throws(() => client.guard(principal, 1 as never), /stream must be an async iterable/);
  assert.throws(
    () => client.guard(principal, () => undefined, { scope: [] } as never),
    /unknown option "scope"/,
  );
  assert.throws(() => client.guard(principal, () => undefined, { toleranceMs: 0 }), /toleranceMs must be/);
});
