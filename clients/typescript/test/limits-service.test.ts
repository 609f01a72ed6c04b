import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { McpServer } from "@modelcontextprotocol/server";
import { mcpApp } from "../examples/mcp-app.js";
import type { Client } from "../src/client.js";
import type { Reservation } from "../src/limits/reservation.js";
import type { LimitState } from "../src/limits/state.js";
import { limitsFrom, type McpRequest, mcpGate } from "../src/mcp.js";
import { duration } from "../src/wire.js";
import { listening, servers } from "./support/adapters.js";
import { hourly, setLimit } from "./support/limits.js";
import { mcpClients } from "./support/mcp-clients.js";
import { clientOf, startService, withService } from "./support/service.js";
import { failure } from "./support/setup.js";
import { until } from "./support/until.js";

async function service(t: TestContext): Promise<{ endpoint: string; client: Client; key: string }> {
  const { endpoint, key } = await startService(t);
  return { endpoint, key, client: clientOf(t, endpoint, { timeoutMs: 10_000 }) };
}

const cost = (metric: string, amount: number) => [{ metric, amount }];

async function stateOf(client: Client, name: string): Promise<LimitState | undefined> {
  const states = await client.limits.state({ tenantId: "ten_demo" }, { timeoutMs: 10_000 });
  return states.find(({ limit }) => limit.name === name);
}

test(
  "service: amounts are taken until a quota is used up, and all of them or none",
  withService,
  async (t) => {
    const { client, key } = await service(t);
    await setLimit(client, "requests", hourly(5));
    await setLimit(client, "tokens", hourly(100));
    await setLimit(client, "planned", hourly(0), true);
    const first = await client.limits.consume({ key, scopes: ["demo:read"] }, [
      ...cost("requests", 3),
      ...cost("tokens", 60),
      ...cost("planned", 1),
      ...cost("unlimited", 1_000_000_000),
    ]);
    assert.deepEqual([first.verdict, first.validation.tenantId], ["VALID", "ten_demo"]);
    assert.deepEqual(
      first.limits.map(({ name, exceeded, shadow }) => [name, exceeded, shadow]),
      [
        ["planned", true, true],
        ["requests", false, false],
        ["tokens", false, false],
      ],
    );
    const second = await client.limits.consume(key, [...cost("requests", 1), ...cost("tokens", 60)]);
    assert.deepEqual(
      [second.verdict, second.allowed, second.principal],
      ["QUOTA_EXCEEDED", false, undefined],
    );
    assert.deepEqual(
      second.limits.map(({ name, exceeded }) => [name, exceeded]),
      [
        ["requests", false],
        ["tokens", true],
      ],
    );
    const last = await client.limits.consume(key, cost("requests", 2));
    assert.deepEqual(
      [last.verdict, last.limits[0]?.remaining, last.limits[0]?.windowMs],
      ["VALID", 0, 3_600_000],
    );
    const none = await client.limits.consume(key, cost("requests", 1));
    assert.equal(none.verdict, "QUOTA_EXCEEDED");
    assert.ok(none.retryAfterMs !== undefined && none.retryAfterMs > 0 && none.retryAfterMs <= 3_900_000);
  },
);

test(
  "service: the limits of a session are those of its key, and a revoked key takes nothing",
  withService,
  async (t) => {
    const { client, key } = await service(t);
    await setLimit(client, "requests", hourly(2));
    const { keyId } = await client.requireKey(key);
    await client.sessions.bind({ sessionId: "s-1", key, ttlMs: 60_000, attributes: { client: "cli" } });
    const taken = await client.limits.consume({ sessionId: "s-1", key }, cost("requests", 2));
    assert.ok("attributes" in taken.validation);
    assert.deepEqual([taken.verdict, taken.validation.attributes], ["VALID", { client: "cli" }]);
    assert.equal(
      (await client.limits.consume({ sessionId: "s-1" }, cost("requests", 1))).verdict,
      "QUOTA_EXCEEDED",
    );
    const events = client.guard(taken.principal ?? assert.fail("there is no principal"), () => undefined);
    events.release();
    await client.raw.admin.revokeKey({ keyId, reason: "leaked" });
    assert.equal((await client.limits.consume(key, cost("unlimited", 1))).verdict, "REVOKED");
  },
);

test("service: a consume id counts once, and each request of a batch by itself", withService, async (t) => {
  const { client, key } = await service(t);
  await setLimit(client, "requests", hourly(4));
  const options = { consumeId: "c-1" };
  assert.equal((await client.limits.consume(key, cost("requests", 3), options)).alreadyConsumed, false);
  const again = await client.limits.consume(key, cost("requests", 3), options);
  assert.deepEqual([again.verdict, again.alreadyConsumed, again.limits], ["VALID", true, []]);
  const other = await failure(client.limits.consume(key, cost("requests", 2), options));
  assert.equal(other.code, "ALREADY_EXISTS");
  const outcomes = await client.limits.consumeMany([
    { credential: key, costs: cost("requests", 2) },
    { credential: "somebody-elses", costs: cost("requests", 1) },
    { credential: key, costs: cost("requests", 0) },
    { credential: key, costs: cost("requests", 1), consumeId: "c-2" },
  ]);
  assert.deepEqual(
    outcomes.map((one) => ("verdict" in one ? one.verdict : one.violations[0]?.field)),
    ["QUOTA_EXCEEDED", "UNKNOWN", "costs[0].amount", "VALID"],
  );
});

/** Reserves the 7 tokens that are left, as soon as the replica has given back its lease of them. */
async function everythingLeft(client: Client, key: string): Promise<Reservation> {
  let reservation: Reservation | undefined;
  await until("7 tokens are left", async () => {
    const options = { expiresInMs: 60_000, onExpiry: "CHARGE" } as const;
    reservation = (await client.limits.reserve(key, cost("tokens", 7), options)).reservation;
    return reservation !== undefined;
  });
  return reservation ?? assert.fail("there is no reservation");
}

test("service: reservations are settled, cancelled and released", withService, async (t) => {
  const { client, key } = await service(t);
  await setLimit(client, "tokens", hourly(10));
  const { limits } = client;
  const { reservation } = await limits.reserve(key, cost("tokens", 8));
  assert.ok(reservation !== undefined && reservation.expiresInMs > 500_000);
  assert.equal((await limits.reserve(key, cost("tokens", 8))).verdict, "QUOTA_EXCEEDED");
  assert.equal((await stateOf(client, "tokens"))?.reserved, 8);
  const settled = await reservation.settle(cost("tokens", 3));
  const limit = { name: "tokens", metric: "tokens", reserved: 8, charged: 3, exceededBy: 0 };
  assert.deepEqual(settled, { state: "SETTLED", limits: [limit], alreadySettled: false });
  assert.equal((await limits.settle(reservation.id, [])).alreadySettled, true);
  assert.equal((await failure(reservation.cancel())).code, "FAILED_PRECONDITION");
  let released: Reservation | undefined;
  const failing = async (): Promise<void> => {
    await using held = await everythingLeft(client, key);
    released = held;
    throw new RangeError("the model failed");
  };
  await assert.rejects(failing, RangeError);
  assert.equal((await limits.settle(released?.id ?? "", [])).state, "CANCELLED");
  const next = await everythingLeft(client, key);
  assert.ok(next.expiresInMs <= 60_000);
  assert.equal(await next.cancel(), "CANCELLED");
  assert.equal((await failure(limits.settle("nobody", []))).code, "NOT_FOUND");
  assert.equal((await failure(limits.cancel("nobody"))).code, "NOT_FOUND");
});

test("service: the state has every rule", withService, async (t) => {
  const { client, key } = await service(t);
  const refill = { amount: 2n, every: 3, maxBalance: 8n };
  const perMinute = { amount: 60n, per: duration("per", 60_000), burst: 5n };
  await setLimit(client, "credits", { case: "credits", value: { initial: 5n, refill } });
  await setLimit(client, "daily", {
    case: "quota",
    value: { amount: 9n, window: { case: "calendar", value: 2 } },
  });
  await setLimit(client, "rate", { case: "rate", value: perMinute });
  await client.limits.consume(key, cost("daily", 4), { consumeId: "c-1" });
  const { keyId } = await client.requireKey(key);
  const states = await client.limits.state({ keyId });
  assert.deepEqual(
    states.map(({ limit }) => limit.rule),
    [
      { kind: "credits", initial: 5, refill: { amount: 2, every: "MONTH", maxBalance: 8 } },
      { kind: "quota", amount: 9, window: "DAY" },
      { kind: "rate", amount: 60, perMs: 60_000, burst: 5 },
    ],
  );
  assert.deepEqual(states[1]?.limit.subject, { tenantId: "ten_demo" });
  const { used = 0, leased = 0, remaining = 9, resetAfterMs = 0 } = states[1] ?? {};
  assert.ok(used + leased >= 4 && remaining <= 5 && resetAfterMs > 0 && resetAfterMs <= 86_400_000);
  assert.equal((await failure(client.limits.state({ tenantId: "nobody" }))).code, "NOT_FOUND");
});

for (const [name, server] of servers) {
  test(`${name}: a request over the limit of the real service is 429`, withService, async (t) => {
    const { client, key } = await service(t);
    await setLimit(client, "requests", hourly(2));
    const url = await server(t, client, { scopes: ["demo:read"], costs: cost("requests", 1) });
    const headers = { authorization: `Bearer ${key}` };
    for (const left of [1, 0]) {
      const response = await fetch(url, { headers });
      assert.deepEqual([response.status, response.headers.get("limits")], [200, "requests"]);
      assert.equal(response.headers.get("ratelimit-policy"), '"requests";q=2;w=3600');
      assert.match(response.headers.get("ratelimit") ?? "", new RegExp(`^"requests";r=[0-${left}];t=\\d+$`));
    }
    const refused = await fetch(url, { headers });
    assert.equal(refused.status, 429);
    assert.match(refused.headers.get("retry-after") ?? "", /^\d+$/);
    assert.match(refused.headers.get("ratelimit") ?? "", /^"requests";r=0;t=\d+$/);
    assert.equal(((await refused.json()) as { code: string }).code, "QUOTA_EXCEEDED");
    assert.equal((await fetch(url, { headers: { authorization: "Bearer nobody's" } })).status, 401);
  });
}

/** A cost for each call of a tool. */
function toolCosts({ messages }: McpRequest) {
  return messages.some(({ method }) => method === "tools/call") ? cost("mcp.tool_calls", 1) : [];
}

for (const [name, connect] of mcpClients) {
  test(`mcp: ${name}: a tool call over the limit of the real service is 429`, withService, async (t) => {
    const { client, key } = await service(t);
    await setLimit(client, "mcp.tool_calls", hourly(2));
    const makeServer = (): McpServer => {
      const made = new McpServer({ name: "limited", version: "1.0.0" });
      made.registerTool("left", { description: "Says what is left" }, ({ http }) => {
        const [limit] = limitsFrom(http?.authInfo) ?? [];
        return { content: [{ type: "text", text: `${limit?.name}: ${limit?.limit}` }] };
      });
      return made;
    };
    const options = { policy: { tools: { left: {} } }, header: ["authorization", "x-api-key"] };
    const { app } = mcpApp(makeServer, () => mcpGate(client, { ...options, costs: toolCosts }));
    const caller = await connect(t, `${await listening(t, app)}/mcp`, key);
    assert.deepEqual(await caller.tools(), ["left"]);
    for (let time = 0; time < 2; time += 1) assert.equal(await caller.call("left"), "mcp.tool_calls: 2");
    await assert.rejects(caller.call("left"), /429|QUOTA_EXCEEDED|quota/i);
    assert.deepEqual(await caller.tools(), ["left"], "only calls of tools cost something");
  });
}

test(
  "service: two local limiters of two clients share one limit without exceeding it",
  withService,
  async (t) => {
    const { endpoint, client, key } = await service(t);
    const amount = 3000;
    await setLimit(client, "requests", hourly(amount));
    const options = { timeoutMs: 10_000 };
    const limiters = [clientOf(t, endpoint, options), clientOf(t, endpoint, options)].map((one) =>
      one.limits.local({ metric: "requests" }),
    );
    let admitted = 0;
    const load = async (limiter: (typeof limiters)[number]): Promise<void> => {
      while ((await limiter.admit(key)).allowed) admitted += 1;
    };
    await Promise.all(limiters.flatMap((limiter) => Array.from({ length: 8 }, () => load(limiter))));
    const before = await stateOf(client, "requests");
    assert.ok(admitted <= amount, `admitted: ${admitted}`);
    assert.ok(admitted >= amount - (before?.reserved ?? 0), `admitted: ${admitted}`);
    await Promise.all(limiters.map((limiter) => limiter.close()));
    await until("all that was admitted counts, and no more", async () => {
      const state = await stateOf(client, "requests");
      return state?.reserved === 0 && state.used === admitted;
    });
    // What was not used can be taken by others.
    const rest = amount - admitted;
    if (rest > 0) assert.equal((await client.limits.consume(key, cost("requests", rest))).allowed, true);
    assert.equal((await client.limits.consume(key, cost("requests", 1))).allowed, false);
  },
);
