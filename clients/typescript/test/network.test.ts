import assert from "node:assert/strict";
import { test } from "node:test";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { environmentProxy } from "../src/net/proxy.js";
import { keyAnswer } from "./support/answers.js";
import { Fake } from "./support/fake.js";
import { ManualClock } from "./support/manual-clock.js";
import { connectProxy, delayed, environment } from "./support/network.js";
import { clientOf, SHARED_KEY, startReplicas, startService, withService } from "./support/service.js";
import { gate, until } from "./support/until.js";

const { validateKey } = ValidationService.method;
const plain = { nearCache: false } as const;

for (const roundTripMs of [80, 150]) {
  test(
    `network: calls succeed from the first one, with a round trip of ${roundTripMs} ms`,
    withService,
    async (t) => {
      const replicas = await startReplicas(t, 2);
      const far = await Promise.all(replicas.map(({ endpoint }) => delayed(t, endpoint, roundTripMs / 2)));
      const client = clientOf(t, far, plain);
      for (let call = 0; call < 6; call += 1) assert.ok((await client.validateKey(SHARED_KEY)).valid);
    },
  );
}

test("network: distance alone causes no hedge", async (t) => {
  const fakes = [await Fake.start(), await Fake.start()];
  for (const fake of fakes) {
    t.after(() => fake.close());
    fake.answer(validateKey, () => keyAnswer());
  }
  const far = await Promise.all(fakes.map(({ endpoint }) => delayed(t, endpoint, 75)));
  // Four times the usual timeout, for busy machines.
  const client = clientOf(t, far, { ...plain, timeoutMs: 4000 });
  await until("both are connected", async () => {
    await client.validateKey("k");
    return fakes.every(({ calls }) => calls.length > 0);
  });
  const before = fakes.reduce((sum, { calls }) => sum + calls.length, 0);
  for (let call = 0; call < 10; call += 1) await client.validateKey("k");
  assert.equal(fakes.reduce((sum, { calls }) => sum + calls.length, 0) - before, 10);
});

test("network: a slow response is not treated as a hung replica", async (t) => {
  const fakes = [await Fake.start(), await Fake.start()] as const;
  const holds = [gate(), gate()];
  let held = 0;
  for (const fake of fakes) {
    t.after(() => fake.close());
    fake.answer(validateKey, async ({ key }) => {
      if (key === "slow") await holds[held++]?.passed;
      return keyAnswer();
    });
  }
  // With a clock of its own: on a busy machine, the calls before could use up the only hedge.
  const clock = new ManualClock();
  const client = clientOf(t, [fakes[0].endpoint, fakes[1].endpoint], {
    ...plain,
    clock,
    timeoutMs: 20_000,
    hedgeAfterMs: 10,
    retryBudget: 1,
  });
  await until("both are connected", async () => {
    await client.validateKey("k");
    return fakes.every(({ calls }) => calls.length > 0);
  });
  const asked = client.validateKey("slow");
  const slow = (): number =>
    fakes.flatMap(({ calls }) => calls).filter(({ request }) => (request as { key?: string }).key === "slow")
      .length;
  await until("the first one is asked", () => slow() === 1);
  clock.advance(10);
  await until("the other one is asked too", () => slow() === 2);
  // Both attempts have the same request id, and no connection was closed.
  holds[0]?.open();
  assert.ok((await asked).valid);
  assert.equal(new Set(fakes.flatMap(({ calls }) => calls.map(({ peer }) => peer))).size, 2);
});

test("network: without a retry budget there is no hedge", async (t) => {
  const fakes = [await Fake.start(), await Fake.start()] as const;
  for (const fake of fakes) {
    t.after(() => fake.close());
    fake.answer(validateKey, ({ key }) => (key === "slow" ? gate<never>().passed : keyAnswer()));
  }
  const clock = new ManualClock();
  const options = { ...plain, clock, timeoutMs: 20_000, hedgeAfterMs: 1, retryBudget: 0 };
  const client = clientOf(t, [fakes[0].endpoint, fakes[1].endpoint], options);
  await until("both are connected", async () => {
    await client.validateKey("k");
    return fakes.every(({ calls }) => calls.length > 0);
  });
  const slow = (): number =>
    fakes.flatMap((fake) => fake.callsOf(validateKey)).filter(({ request }) => request.key === "slow").length;
  const leaving = new AbortController();
  const asked = client.validateKey("slow", { signal: leaving.signal });
  await until("it is there", () => slow() === 1);
  clock.advance(1);
  for (let call = 0; call < 4; call += 1) await client.validateKey("k");
  assert.equal(slow(), 1);
  leaving.abort(new Error("enough"));
  await assert.rejects(asked, /enough/);
});

test("network: an environment proxy is used if enabled, never for loopback", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const proxy = await connectProxy(t, endpoint);
  environment(t, {
    http_proxy: proxy.url,
    HTTP_PROXY: proxy.url,
    no_proxy: undefined,
    NO_PROXY: undefined,
  });
  const options = { ...plain, timeoutMs: 10_000, useEnvironmentProxy: true };
  assert.ok((await clientOf(t, endpoint, options).validateKey(key)).valid);
  assert.deepEqual(proxy.asked, []);
  assert.ok((await clientOf(t, "auth.example.com:50051", options).validateKey(key)).valid);
  assert.deepEqual(proxy.asked, ["auth.example.com:50051 Basic dXNlcjpwYXNz"]);
});

test("network: names that are reached through a proxy", (t) => {
  const proxy = "http://proxy.test:3128";
  environment(t, {
    http_proxy: proxy,
    https_proxy: proxy,
    no_proxy: ".direct.test,10.0.0.1",
    NO_PROXY: undefined,
  });
  const proxied = (host: string): boolean => {
    const authority = `${host.includes(":") ? `[${host}]` : host}:1`;
    return environmentProxy({ host, port: 1, authority, secure: true }) !== undefined;
  };
  for (const host of ["auth.example.com", "192.0.2.1", "2001:db8::1"]) assert.ok(proxied(host), host);
  const direct = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "localhost",
    "auth",
    "auth.ns.svc",
    "a.local",
    "a.internal",
  ];
  for (const host of [...direct, "auth.ns.svc.cluster.local", "x.direct.test", "10.0.0.1"])
    assert.ok(!proxied(host), host);
});
