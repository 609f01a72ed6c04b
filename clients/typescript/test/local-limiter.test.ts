import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Client } from "../src/client.js";
import { LimitService, ReservationExpiry, ReservationState } from "../src/gen/tenantauth/v1/limit_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { LocalLimiter } from "../src/limits/local-limiter.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { InvalidationScope } from "./support/fake-watch.js";
import { exceeded, invalidKey, limited, reserved } from "./support/limit-answers.js";
import type { ManualClock } from "./support/manual-clock.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";
import { heartbeat, watched } from "./support/watched.js";

const { reserve, settle } = LimitService.method;
const { validateKey } = ValidationService.method;
const DAY_MS = 86_400_000;

/** What the fake counts of one limit. */
class Ledger {
  readonly held = new Map<string, bigint>();
  readonly settled = new Map<string, bigint>();
  amount: bigint;

  constructor(fake: Fake, amount: number) {
    this.amount = BigInt(amount);
    fake.answer(reserve, ({ reservationId, costs }) => {
      const wanted = costs[0]?.amount ?? 0n;
      if (this.used + this.reserved + wanted > this.amount)
        return limited(Verdict.QUOTA_EXCEEDED, [exceeded()]);
      this.held.set(reservationId, wanted);
      return reserved(30_000);
    });
    fake.answer(settle, ({ reservationId, actual }) => {
      // The first settlement decides, as in the service.
      if (this.held.delete(reservationId)) this.settled.set(reservationId, actual[0]?.amount ?? -1n);
      return { state: ReservationState.SETTLED };
    });
  }

  get used(): bigint {
    return [...this.settled.values()].reduce((sum, amount) => sum + amount, 0n);
  }

  get reserved(): bigint {
    return [...this.held.values()].reduce((sum, amount) => sum + amount, 0n);
  }
}

interface Setup {
  readonly fake: Fake;
  readonly client: Client;
  readonly clock: ManualClock;
  readonly limiter: LocalLimiter;
  readonly ledger: Ledger;
}

async function setup(t: TestContext, amount: number): Promise<Setup> {
  const { fake, client, clock } = await connected(t, { nearCache: { watch: false }, timeoutMs: 60_000 });
  fake.answer(validateKey, ({ key }) => keyAnswer({ keyId: `key_${key}`, cacheableForMs: DAY_MS }));
  const limiter = client.limits.local({ metric: "requests" });
  return { fake, client, clock, limiter, ledger: new Ledger(fake, amount) };
}

/** Asks for single units one after the other. Returns the number of those that were admitted. */
async function admitted(limiter: LocalLimiter, times: number, key = "k"): Promise<number> {
  let count = 0;
  for (let time = 0; time < times; time += 1) if ((await limiter.admit(key)).allowed) count += 1;
  return count;
}

test("local limiter: chunks grow with the rate, and most requests make no call", async (t) => {
  const { fake, limiter, ledger } = await setup(t, 1_000_000);
  assert.equal(await admitted(limiter, 2000), 2000);
  const sizes = fake.callsOf(reserve).map(({ request }) => Number(request.costs[0]?.amount));
  assert.deepEqual(sizes.slice(0, 3), [1, 1, 2]);
  assert.ok(sizes.every((size, at) => size <= 1000 && size <= 2 * (sizes[at - 1] ?? 1)));
  assert.ok(sizes.length < 20, `calls: ${sizes.length}`);
  const [first] = fake.callsOf(reserve);
  assert.equal(first?.request.onExpiry, ReservationExpiry.CHARGE);
  assert.equal(first?.request.expiresIn?.seconds, 30n);
  assert.equal(fake.callsOf(validateKey).length, 1);
  assert.equal((await limiter.admit("k")).principal?.keyId, "key_k");
  await limiter.close();
  assert.deepEqual([ledger.used, ledger.reserved], [2001n, 0n]);
});

test("local limiter: it never admits more than the limit, and everything that is left", async (t) => {
  const { fake, limiter, clock, ledger } = await setup(t, 500);
  const outcomes = await Promise.all(Array.from({ length: 800 }, () => limiter.admit("k")));
  assert.equal(outcomes.filter(({ allowed }) => allowed).length, 500);
  const refused = outcomes.find(({ allowed }) => !allowed);
  assert.deepEqual([refused?.verdict, refused?.limits[0]?.name], ["QUOTA_EXCEEDED", "hourly"]);
  assert.deepEqual([refused?.validation.valid, refused?.retryAfterMs], [true, 1500]);
  assert.ok(fake.callsOf(reserve).length < 60, `calls: ${fake.callsOf(reserve).length}`);
  ledger.amount = 503n;
  const before = fake.callsOf(reserve).length;
  assert.equal(await admitted(limiter, 10), 0, "a refusal is remembered for a second");
  assert.equal(fake.callsOf(reserve).length, before);
  clock.advance(1000);
  assert.equal(await admitted(limiter, 10), 3, "what is added later is found");
  await limiter.close();
  assert.deepEqual([ledger.used, ledger.reserved], [503n, 0n]);
});

test("local limiter: keys have their own chunks, and amounts may be larger than one", async (t) => {
  const { fake, limiter, ledger } = await setup(t, 5000);
  assert.equal((await limiter.admit("a", 3000)).allowed, true);
  assert.equal((await limiter.admit({ key: "b" }, 1500)).allowed, true);
  assert.equal((await limiter.admit("a", 501)).verdict, "QUOTA_EXCEEDED");
  assert.equal((await limiter.admit("a", 500)).allowed, true);
  const sizes = fake.callsOf(reserve).map(({ request }) => Number(request.costs[0]?.amount));
  assert.deepEqual(sizes.slice(0, 2), [3000, 1500]);
  await limiter.close();
  assert.deepEqual([ledger.used, ledger.reserved], [5000n, 0n]);
});

test("local limiter: a revoked key admits nothing, although its chunk is not spent", async (t) => {
  const { fake, client, watch } = await watched(t);
  const ledger = new Ledger(fake, 100);
  const limiter = client.limits.local({ metric: "requests" });
  await limiter.admit("k", 5);
  await admitted(limiter, 5);
  assert.ok(ledger.reserved > 0n);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, keyId: "key_k", revision: 20n }));
  watch.invalidate(InvalidationScope.KEY, "key_k", 20n);
  await heartbeat(client, watch, 21n);
  const outcome = await limiter.admit("k");
  assert.deepEqual([outcome.verdict, outcome.allowed, outcome.limits], ["REVOKED", false, []]);
  await limiter.close();
  assert.deepEqual([ledger.used, ledger.reserved], [10n, 0n]);
});

test("local limiter: what is left of a chunk is given back before its expiry, and then there is a new one", async (t) => {
  const { fake, limiter, clock, ledger } = await setup(t, 1000);
  await admitted(limiter, 5);
  await until("the spent chunks are settled", () => ledger.held.size <= 1);
  assert.ok(ledger.reserved > 0n && ledger.used < 5n);
  clock.advance(26_999);
  assert.ok(ledger.reserved > 0n);
  await until("it is settled", () => {
    clock.advance(1);
    return ledger.reserved === 0n;
  });
  assert.equal(ledger.used, 5n);
  const before = fake.callsOf(reserve).length;
  assert.equal((await limiter.admit("k")).allowed, true);
  assert.equal(fake.callsOf(reserve).length, before + 1);
});

test("local limiter: without a decision it rejects, and goes on when there is one", async (t) => {
  const { fake, client } = await connected(t, { nearCache: { watch: false }, retryBudget: 0 });
  fake.answer(validateKey, () => keyAnswer({ cacheableForMs: DAY_MS }));
  fake.answer(reserve, () => Promise.reject(unavailable()));
  const limiter = client.limits.local({ metric: "requests" });
  const failing = await Promise.all([failure(limiter.admit("k")), failure(limiter.admit("k"))]);
  assert.deepEqual(
    failing.map(({ kind }) => kind),
    ["unavailable", "unavailable"],
  );
  fake.answer(reserve, () => invalidKey(Verdict.TENANT_SUSPENDED));
  assert.equal((await limiter.admit("k")).verdict, "TENANT_SUSPENDED");
  const ledger = new Ledger(fake, 1);
  assert.equal((await limiter.admit("k")).allowed, true);
  await limiter.close();
  assert.equal(ledger.used, 1n);
});

test("local limiter: a caller that gives up leaves the chunk to the others", async (t) => {
  const { fake, limiter, ledger } = await setup(t, 1);
  const late = gate();
  fake.answer(reserve, async ({ reservationId }) => {
    await late.passed;
    ledger.held.set(reservationId, 1n);
    return reserved(30_000);
  });
  const leaving = new AbortController();
  const left = limiter.admit("k", 1, { signal: leaving.signal });
  await until("it is requested", () => fake.callsOf(reserve).length === 1);
  leaving.abort(new RangeError("gone"));
  await assert.rejects(left, RangeError);
  const waiting = limiter.admit("k");
  late.open();
  assert.equal((await waiting).allowed, true);
  assert.equal(fake.callsOf(reserve).length, 1);
});

test("local limiter: a closed one rejects, and settles a chunk that arrives late", async (t) => {
  const { fake, limiter, ledger } = await setup(t, 10);
  const late = gate();
  fake.answer(reserve, async ({ reservationId, costs }) => {
    await late.passed;
    ledger.held.set(reservationId, costs[0]?.amount ?? 0n);
    return reserved(30_000);
  });
  const waiting = failure(limiter.admit("k"));
  await until("it is requested", () => fake.callsOf(reserve).length === 1);
  const closing = limiter.close();
  assert.equal((await failure(limiter.admit("k"))).kind, "closed");
  late.open();
  await Promise.all([closing, limiter.close()]);
  assert.equal((await waiting).kind, "closed");
  assert.deepEqual([ledger.used, ledger.reserved], [0n, 0n]);
});

test("local limiter: invalid arguments are rejected by name", async (t) => {
  const { client, limiter } = await setup(t, 1);
  const wrong = (value: unknown): never => value as never;
  for (const [call, message] of [
    [() => limiter.admit("k", 0), /amount must be a whole number from 1 to 1000000000, not 0/],
    [() => limiter.admit("k", 1.5), /amount must be a whole number/],
    [() => limiter.admit(wrong({ key: "k", scope: "a" })), /credential: unknown option "scope"/],
    [() => limiter.close(-1), /timeoutMs must be more than 0/],
    [async () => client.limits.local(wrong({ name: "a" })), /options: unknown option "name"/],
    [async () => client.limits.local({ metric: "No" }), /metric must be a lower-case letter/],
  ] as const)
    await assert.rejects(
      async () => await call(),
      (error) => error instanceof TypeError && message.test(error.message),
    );
});
