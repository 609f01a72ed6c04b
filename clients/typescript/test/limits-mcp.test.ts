import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { type TestContext, test } from "node:test";
import { LimitService } from "../src/gen/tenantauth/v1/limit_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import {
  type Cost,
  limitsFrom,
  type McpGateOptions,
  type McpRequest,
  mcpGate,
  principalFrom,
} from "../src/mcp.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { type Application, frameworks, listening, post, rpc } from "./support/gates.js";
import { exceeded, invalidKey, limited } from "./support/limit-answers.js";
import { connected } from "./support/setup.js";
import { until } from "./support/until.js";

const { consume } = LimitService.method;
const { validateKey } = ValidationService.method;
const one = [{ metric: "mcp.tool_calls", amount: 1 }];
const policy = {
  tools: { list_orders: { scopes: ["orders:read"] }, refund_order: { scopes: ["orders:write"] } },
};
const call = (name: string): object => rpc("tools/call", { name, arguments: {} });

/** A cost for each call of a tool. */
function toolCosts({ messages }: McpRequest): readonly Cost[] {
  const calls = messages.filter(({ method }) => method === "tools/call").length;
  return calls === 0 ? [] : [{ metric: "mcp.tool_calls", amount: calls }];
}

async function gated(
  t: TestContext,
  options: McpGateOptions,
  framework: (typeof frameworks)[number][1] = frameworks[0][1],
): Promise<{ fake: Fake; url: string; seen: unknown[] }> {
  const { fake, client } = await connected(t, { retryBudget: 0 });
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(consume, () => limited());
  const seen: unknown[] = [];
  const application: Application = (request, response) => {
    seen.push([principalFrom(request.auth)?.tenantId, limitsFrom(request.auth)?.map(({ name }) => name)]);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ jsonrpc: "2.0", id: 1, result: {} }));
  };
  const gate = mcpGate(client, { onError: () => undefined, ...options });
  return { fake, url: await listening(t, framework(gate, application)), seen };
}

for (const [name, framework] of frameworks) {
  test(`mcp: ${name}: costs are taken in one call, and tools can read the limits`, async (t) => {
    const { fake, url, seen } = await gated(t, { costs: one }, framework);
    const response = await post(url, call("list_orders"));
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("ratelimit"), '"hourly";r=7;t=1800');
    assert.equal(response.headers.get("ratelimit-policy"), '"hourly";q=10;w=3600');
    assert.deepEqual(seen, [["ten_1", ["hourly"]]]);
    assert.deepEqual([fake.callsOf(consume).length, fake.callsOf(validateKey).length], [1, 0]);
  });

  test(`mcp: ${name}: an exceeded limit is 429 in front of the application`, async (t) => {
    for (const options of [{ costs: one }, { costs: toolCosts, policy }]) {
      const { fake, url, seen } = await gated(t, options, framework);
      fake.answer(consume, () => limited(Verdict.QUOTA_EXCEEDED, [exceeded()]));
      const response = await post(url, call("list_orders"));
      assert.equal(response.status, 429);
      assert.equal(response.headers.get("retry-after"), "2");
      assert.equal(response.headers.get("ratelimit"), '"hourly";r=0;t=1800');
      assert.equal(((await response.json()) as { code: string }).code, "QUOTA_EXCEEDED");
      fake.answer(consume, () => Promise.reject(unavailable()));
      assert.equal((await post(url, call("list_orders"))).status, 503);
      fake.answer(consume, () => invalidKey(Verdict.REVOKED));
      assert.equal((await post(url, call("list_orders"))).status, 401);
      assert.deepEqual(seen, []);
    }
  });
}

test("mcp: with a policy, costs can depend on the message, and a refused message costs nothing", async (t) => {
  const { fake, url, seen } = await gated(t, { costs: toolCosts, policy });
  assert.equal((await post(url, call("refund_order"))).status, 403);
  assert.equal((await post(url, call("unknown_tool"))).status, 403);
  assert.equal((await post(url, rpc("tools/list"))).status, 200);
  assert.equal(fake.callsOf(consume).length, 0);
  assert.equal((await post(url, [call("list_orders"), rpc("ping"), call("list_orders")])).status, 200);
  const stateless = {
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "list_orders",
  };
  assert.equal((await post(url, call("list_orders"), stateless)).status, 200);
  assert.deepEqual(
    fake.callsOf(consume).map(({ request }) => request.costs[0]?.amount),
    [2n, 1n],
  );
  assert.deepEqual(seen, [
    ["ten_1", []],
    ["ten_1", ["hourly"]],
    ["ten_1", ["hourly"]],
  ]);
  assert.equal(fake.callsOf(validateKey).length, 1, "the near cache validates before the body is read");
});

test("mcp: a body that is sent slowly costs once, after it was judged", async (t) => {
  const { fake, client } = await connected(t);
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(consume, () => limited());
  const requests: IncomingMessage[] = [];
  const gate = mcpGate(client, { costs: toolCosts, policy });
  const url = await listening(t, (request, response) => {
    requests.push(request);
    gate(request, response, () => response.end());
  });
  const body = JSON.stringify(call("list_orders"));
  const headers = { authorization: "Bearer ta_key", "content-length": body.length };
  const asked = httpRequest(url, { method: "POST", headers, agent: false });
  asked.write(body.slice(0, 10));
  await until("the body is read", () => (requests[0]?.listenerCount("readable") ?? 0) > 0);
  assert.equal(fake.callsOf(consume).length, 0);
  asked.end(body.slice(10));
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  response.resume();
  assert.equal(response.statusCode, 200);
  assert.equal(fake.callsOf(consume).length, 1);
});

test("mcp: without costs, no limits are known", async (t) => {
  const { fake, url, seen } = await gated(t, { policy });
  const response = await post(url, call("list_orders"));
  assert.deepEqual([response.status, response.headers.get("ratelimit")], [200, null]);
  assert.deepEqual(seen, [["ten_1", undefined]]);
  assert.equal(fake.callsOf(consume).length, 0);
});
