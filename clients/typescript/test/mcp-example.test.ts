import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Client } from "../src/client.js";
import { rpc } from "./support/gates.js";
import { mcpClients } from "./support/mcp-clients.js";
import { ours, type Program } from "./support/process.js";
import { clientOf, startService, withService } from "./support/service.js";
import { until } from "./support/until.js";

interface Example {
  readonly url: string;
  readonly endpoint: string;
  readonly server: Program;
  readonly operator: Client;
  /** Keys of acme, and one of globex with all scopes. */
  readonly keys: Readonly<Record<"reader" | "writer" | "foreign", string>>;
  readonly keyIds: Readonly<Record<"reader" | "writer" | "foreign", string>>;
}

/** Starts the example with the real service, and issues keys. */
async function example(t: TestContext): Promise<Example> {
  const { endpoint } = await startService(t);
  const operator = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const { admin } = operator.raw;
  for (const tenantId of ["acme", "globex"])
    await admin.createTenant({ tenantId, name: tenantId, plan: "pro" });
  const issue = async (tenantId: string, ...scopes: string[]) => {
    const { plaintext, key } = await admin.issueKey({ tenantId, name: "a test", scopes });
    return [plaintext, key?.keyId ?? ""] as const;
  };
  const [reader, writer, foreign] = [
    await issue("acme", "orders:read"),
    await issue("acme", "orders:write"),
    await issue("globex", "orders:read", "orders:write"),
  ];
  const server = ours(t, "examples/mcp-server", { TENANT_AUTH_ENDPOINTS: endpoint, PORT: "0" });
  const url = await server.said(/^listening on (\S+)$/);
  return {
    url,
    endpoint,
    server,
    operator,
    keys: { reader: reader[0], writer: writer[0], foreign: foreign[0] },
    keyIds: { reader: reader[1], writer: writer[1], foreign: foreign[1] },
  };
}

/** The recorded tool calls of acme. */
async function recorded(operator: Client): Promise<number> {
  const now = Date.now();
  const span = { start: new Date(now - 7_200_000), end: new Date(now + 7_200_000) };
  let sum = 0;
  for await (const { metric, quantity } of operator.usage.query({ tenantId: "acme", ...span }))
    if (metric === "mcp.tool_calls") sum += Number(quantity);
  return sum;
}

for (const [name, connect, hasSessions] of mcpClients) {
  test(`example: ${name}: each key sees and calls the tools of its scopes`, withService, async (t) => {
    const { url, server, operator, keys } = await example(t);
    const reader = await connect(t, url, keys.reader);
    assert.equal(reader.sessionId !== undefined, hasSessions);
    assert.deepEqual(await reader.tools(), ["list_orders"]);
    assert.equal(await reader.call("list_orders"), "orders of acme: order_1");
    await assert.rejects(
      reader.call("refund_order", { order: "order_1" }),
      /The API key lacks a scope|Insufficient scope: required "orders:write"/,
    );

    const writer = await connect(t, url, keys.writer);
    assert.deepEqual(await writer.tools(), ["refund_order", "open_cart", "add_to_cart"]);
    assert.equal(await writer.call("refund_order", { order: "order_1" }), "refunded order_1 of acme");

    const cart = await writer.call("open_cart");
    assert.match(cart, /^cart_[\w-]{43}$/);
    assert.equal(await writer.call("add_to_cart", { cart, item: "tea" }), "in the cart: tea");
    const foreign = await connect(t, url, keys.foreign);
    for (const unknown of [cart, `cart_${"x".repeat(43)}`, "cart_1", ""])
      assert.equal(await foreign.call("add_to_cart", { cart: unknown, item: "tea" }), "unknown handle");
    await assert.rejects(connect(t, url, "nobody's"), /401|Unauthorized|API key/);

    await writer.end();
    server.stop();
    assert.equal(await server.ended, 0);
    assert.equal(await recorded(operator), 1, "a refused call is not recorded");
  });
}

const json = { "content-type": "application/json", accept: "application/json, text/event-stream" };

test("example: a foreign session is not found, and a handle is no session", withService, async (t) => {
  const { url, keys, operator } = await example(t);
  const [, connect] = mcpClients[0];
  const { sessionId = "" } = await connect(t, url, keys.reader);
  const as = async (key: string, id: string, method = "POST"): Promise<number> => {
    const headers = { ...json, authorization: `Bearer ${key}`, "mcp-session-id": id };
    const body = method === "POST" ? JSON.stringify(rpc("tools/list")) : null;
    return (await fetch(url, { method, headers, body })).status;
  };
  assert.equal(await as(keys.reader, sessionId), 200);
  assert.equal(await as(keys.writer, sessionId), 200, "any key of the tenant continues it");
  for (const method of ["POST", "GET", "DELETE"])
    assert.equal(await as(keys.foreign, sessionId, method), 404);
  const handle = `mcp-handle:cart_${"x".repeat(43)}`;
  await operator.sessions.bind({ sessionId: handle, key: keys.reader, ttlMs: 60_000 });
  assert.equal(await as(keys.reader, handle), 404);
  assert.equal(await as(keys.reader, sessionId), 200);
  await operator.sessions.unbind(sessionId, "acme");
  await until("the session is over", async () => (await as(keys.reader, sessionId)) === 404);
});

test("example: a client that lies about its revision or its tool runs nothing", withService, async (t) => {
  const { url, keys, server, operator } = await example(t);
  const [, connect] = mcpClients[0];
  const { sessionId = "" } = await connect(t, url, keys.writer);
  const version = "2026-07-28";
  const call = rpc("tools/call", {
    name: "refund_order",
    arguments: { order: "order_1" },
    _meta: { "io.modelcontextprotocol/protocolVersion": version },
  });
  const ask = async (key: string, headers: Record<string, string>, body: object = call) => {
    const all = { ...json, authorization: `Bearer ${key}`, ...headers };
    const response = await fetch(url, { method: "POST", headers: all, body: JSON.stringify(body) });
    const { code, error } = (await response.json()) as { code?: string; error?: { code?: number } };
    return [response.status, code ?? error?.code];
  };
  const stateless = { "mcp-protocol-version": version, "mcp-method": "tools/call" };
  assert.deepEqual(await ask(keys.writer, { ...stateless, "mcp-name": "list_orders" }), [
    403,
    "INSUFFICIENT_SCOPE",
  ]);
  assert.deepEqual(await ask(keys.foreign, { ...stateless, "mcp-name": "list_orders" }), [400, -32020]);
  assert.deepEqual(await ask(keys.reader, { ...stateless, "mcp-name": "list_orders" }), [400, -32020]);
  // The session of another tenant is not reached with the header of a revision without sessions.
  const { _meta, ...plain } = (call as { params: { _meta: object } }).params;
  const foreign = { ...stateless, "mcp-name": "refund_order", "mcp-session-id": sessionId };
  const [status] = await ask(keys.foreign, foreign, rpc("tools/call", plain));
  assert.equal(status, 400);
  server.stop();
  assert.equal(await server.ended, 0);
  assert.equal(await recorded(operator), 0);
});

test("example: the event streams of a revoked key end on every server", withService, async (t) => {
  const { url, keys, keyIds, operator, endpoint } = await example(t);
  const other = ours(t, "examples/mcp-server", { TENANT_AUTH_ENDPOINTS: endpoint, PORT: "0" });
  const urls = [url, await other.said(/^listening on (\S+)$/)];
  const [, connect] = mcpClients[0];
  const { sessionId = "" } = await connect(t, url, keys.reader);
  const authorization = `Bearer ${keys.reader}`;
  const open = { authorization, accept: "text/event-stream", "mcp-session-id": sessionId };
  // The client of the SDK has opened one, and a session has only one.
  const stream = await fetch(url, { headers: open });
  const meta = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": { name: "a test", version: "1" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  const listen = rpc("subscriptions/listen", { notifications: { toolsListChanged: true }, _meta: meta }, 7);
  const headers = {
    ...json,
    authorization,
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "subscriptions/listen",
  };
  const body = JSON.stringify(listen);
  const streams = await Promise.all(urls.map((each) => fetch(each, { method: "POST", headers, body })));
  const start = performance.now();
  await operator.raw.admin.revokeKey({ keyId: keyIds.reader, reason: "leaked" });
  const error = { code: -32001, message: "The API key was revoked.", data: { code: "REVOKED" } };
  const end = `event: message\ndata: ${JSON.stringify({ jsonrpc: "2.0", id: 7, error })}\n\n`;
  const read = async (response: Response): Promise<void> => {
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const events = await response.text();
    t.diagnostic(`a revoked key's stream ended after ${Math.round(performance.now() - start)} ms`);
    assert.ok(events.endsWith(end), events);
  };
  await Promise.all(streams.map(read));
  await stream.text();
  assert.equal((await fetch(url, { headers: open })).status, 401);
});
