import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Client } from "../src/client.js";
import { requireKey as expressRequireKey } from "../src/express.js";
import { requireKey as fastifyRequireKey } from "../src/fastify.js";
import { LimitService } from "../src/gen/tenantauth/v1/limit_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { RequireKeyOptions } from "../src/http/admit.js";
import type { RequestCosts } from "../src/http/costs.js";
import { rateLimitHeaders } from "../src/http/rate-limit.js";
import type { Cost } from "../src/limits/cost.js";
import { mcpGate } from "../src/mcp.js";
import { type Server, servers } from "./support/adapters.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { decision, exceeded, invalidKey, limited } from "./support/limit-answers.js";
import { connected } from "./support/setup.js";

const { consume } = LimitService.method;
const { validateKey } = ValidationService.method;
const one = [{ metric: "requests", amount: 1 }];
const headers = { authorization: "Bearer ta_key" };

async function serving(
  t: TestContext,
  server: Server,
  costs: RequestCosts<unknown>,
): Promise<{ fake: Fake; url: string; errors: unknown[] }> {
  const { fake, client } = await connected(t, { retryBudget: 0 });
  const errors: unknown[] = [];
  const options = { scopes: ["orders:read"], costs, onError: (error: unknown) => errors.push(error) };
  return { fake, url: await server(t, client, options), errors };
}

for (const [name, server] of servers) {
  test(`${name}: a request takes its costs in one call, and the response states the limits`, async (t) => {
    const { fake, url } = await serving(t, server, one);
    const burst = decision({ name: "burst", limit: 5n, window: { seconds: 0n, nanos: 500_000_000 } });
    const credits = decision({ name: "credits", limit: 50n, remaining: 20n });
    delete credits.window;
    delete credits.resetAfter;
    fake.answer(consume, () => limited(Verdict.VALID, [burst, credits, decision({ shadow: true })]));
    const response = await fetch(url, { headers });
    assert.equal(response.status, 200);
    assert.equal(((await response.json()) as { tenantId: string }).tenantId, "ten_1");
    assert.equal(response.headers.get("ratelimit-policy"), '"burst";q=5;w=1, "credits";q=50');
    assert.equal(response.headers.get("ratelimit"), '"burst";r=7;t=1800, "credits";r=20');
    assert.equal(response.headers.get("limits"), "burst,credits,hourly");
    const [sent] = fake.callsOf(consume);
    assert.deepEqual([sent?.request.consumeId, sent?.request.costs[0]?.amount], ["", 1n]);
    const asked = sent?.request.credential?.credential;
    assert.ok(asked?.case === "key");
    const { key, requiredScopes, clientAddress } = asked.value;
    assert.deepEqual([key, requiredScopes, clientAddress], ["ta_key", ["orders:read"], "127.0.0.1"]);
    assert.equal(fake.callsOf(validateKey).length, 0);
  });

  test(`${name}: an exceeded limit is 429 with the delay and the limits`, async (t) => {
    const { fake, url, errors } = await serving(t, server, one);
    const never = exceeded();
    delete never.retryAfter;
    for (const [verdict, limits, retryAfter, detail] of [
      [Verdict.QUOTA_EXCEEDED, [exceeded()], "2", "A quota is used up: hourly."],
      [
        Verdict.RATE_LIMITED,
        [exceeded({ retryAfter: { seconds: 0n, nanos: 1 } })],
        "1",
        "A rate limit is exceeded: hourly.",
      ],
      [Verdict.QUOTA_EXCEEDED, [never], null, "A quota is used up: hourly."],
    ] as const) {
      fake.answer(consume, () => limited(verdict, [...limits]));
      const response = await fetch(url, { headers });
      assert.equal(response.status, 429);
      assert.equal(response.headers.get("retry-after"), retryAfter);
      assert.equal(response.headers.get("ratelimit-policy"), '"hourly";q=10;w=3600');
      assert.equal(response.headers.get("ratelimit"), '"hourly";r=0;t=1800');
      assert.equal(response.headers.get("cache-control"), "no-store");
      assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
      const code = Verdict[verdict];
      const title = "Too Many Requests";
      assert.deepEqual(await response.json(), { type: "about:blank", title, status: 429, detail, code });
    }
    assert.deepEqual(errors, []);
  });

  test(`${name}: with costs, denied keys and failures have their usual responses`, async (t) => {
    const { fake, url, errors } = await serving(t, server, one);
    for (const [answer, status, code] of [
      [() => invalidKey(Verdict.REVOKED), 401, "REVOKED"],
      [
        () => invalidKey(Verdict.INSUFFICIENT_SCOPE, { missingScopes: ["orders:read"] }),
        403,
        "INSUFFICIENT_SCOPE",
      ],
      [() => invalidKey(Verdict.TENANT_SUSPENDED), 403, "TENANT_SUSPENDED"],
      [() => limited(99 as Verdict), 403, "UNRECOGNIZED"],
      [() => Promise.reject(invalid("credential.key.key")), 401, "MALFORMED"],
      [() => Promise.reject(unavailable(1500)), 503, "UNDECIDED"],
      [() => Promise.reject(invalid("costs[0].metric")), 503, "UNDECIDED"],
    ] as const) {
      fake.answer(consume, answer as () => ReturnType<typeof limited>);
      const response = await fetch(url, { headers });
      assert.deepEqual([response.status, ((await response.json()) as { code: string }).code], [status, code]);
      assert.equal(response.headers.get("ratelimit"), null);
      assert.equal(
        response.headers.get("retry-after"),
        status !== 503 ? null : errors.length === 1 ? "2" : "1",
      );
    }
    assert.equal(errors.length, 2);
    assert.equal((await fetch(url)).status, 401);
    assert.equal(fake.calls.length, 7, "without a key the service is not called");
  });

  test(`${name}: costs can depend on the request, and be none`, async (t) => {
    const costs = async (request: unknown): Promise<readonly Cost[]> => {
      const { method, url } = request as { readonly method: string; readonly url: string };
      if (url.startsWith("/broken")) throw new RangeError("no costs");
      return method === "GET" ? [] : [{ metric: "writes", amount: url.length }];
    };
    const { fake, url, errors } = await serving(t, server, costs);
    fake.answer(validateKey, () => keyAnswer());
    fake.answer(consume, () => limited());
    const read = await fetch(`${url}/orders`, { headers });
    assert.deepEqual(
      [read.status, read.headers.get("limits"), read.headers.get("ratelimit")],
      [200, "", null],
    );
    assert.equal(fake.callsOf(consume).length, 0);
    assert.equal((await fetch(`${url}/orders`, { headers, method: "POST" })).status, 200);
    const [sent] = fake.callsOf(consume);
    assert.deepEqual([sent?.request.costs[0]?.metric, sent?.request.costs[0]?.amount], ["writes", 7n]);
    const broken = await fetch(`${url}/broken`, { headers });
    assert.deepEqual([broken.status, errors.length], [503, 1]);
    assert.ok(errors[0] instanceof RangeError);
  });
}

test("limits: headers have whole seconds and integers that structured fields can carry", () => {
  const limit = { name: "a.b-c_d", metric: "m", decidedBy: "LEASE", exceeded: false, shadow: false } as const;
  const huge = { ...limit, limit: 2 ** 53, remaining: 2 ** 53, windowMs: 1001, resetAfterMs: 0 };
  assert.deepEqual(rateLimitHeaders([huge]), {
    "ratelimit-policy": '"a.b-c_d";q=999999999999999;w=2',
    ratelimit: '"a.b-c_d";r=999999999999999;t=0',
  });
  assert.deepEqual(rateLimitHeaders([{ ...huge, shadow: true }]), {});
});

test("limits: invalid costs of an adapter are rejected immediately", async (t) => {
  const { client } = await connected(t);
  for (const [costs, message] of [
    [[], /costs must have 1 to 16 entries/],
    [null, /costs must be a list/],
    [{ requests: 1 }, /costs must be a list, such as/],
    [[{ metric: "No Metric", amount: 1 }], /costs\[0\].metric must be a lower-case letter/],
    [[...one, { metric: "requests", amount: 2 }], /costs\[1\].metric occurs twice: add the amounts/],
    [[{ metric: "requests", amount: 0 }], /costs\[0\].amount must be a whole number from 1 to 1000000000/],
    [[{ metric: "requests", amount: 1.5 }], /costs\[0\].amount must be a whole number/],
  ] as const) {
    const options = { costs } as unknown as RequireKeyOptions;
    for (const adapter of [expressRequireKey, fastifyRequireKey, mcpGate])
      assert.throws(() => adapter(client, options), message);
  }
  const validator = { validateKey: client.validateKey } as unknown as Client;
  for (const costs of [one, () => one])
    assert.throws(() => expressRequireKey(validator, { costs }), /client must have a method limits.consume/);
});
