import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { eventTransform } from "../src/mcp/transforms.js";
import { type McpGateOptions, mcpGate } from "../src/mcp.js";
import { keyAnswer } from "./support/answers.js";
import { type Application, frameworks, listening, post, rpc } from "./support/gates.js";
import { connected } from "./support/setup.js";

const { validateKey } = ValidationService.method;
const [[, withExpress]] = frameworks;
const policy = {
  tools: { list_orders: { scopes: ["orders:read"] }, refund_order: { scopes: ["orders:write"] } },
  resources: { "orders://*": { scopes: ["orders:read"] }, "orders://secret/*": { scopes: ["admin"] } },
};

const entries = {
  tools: [{ name: "refund_order" }, { name: "list_orders", title: "List" }, { name: "drop_tables" }, {}],
  resources: [{ uri: "orders://secret/1" }, { uri: "orders://1" }, { uri: "file:///x" }],
  resourceTemplates: [{ uriTemplate: "orders://{id}" }, { uriTemplate: "orders://secret/{id}" }],
  prompts: [{ name: "free" }],
};
const [tools, resources, resourceTemplates] = [
  [{ name: "list_orders", title: "List" }],
  [{ uri: "orders://1" }],
  [{ uriTemplate: "orders://{id}" }],
];

async function gated(
  t: TestContext,
  application: Application,
  options: McpGateOptions = { policy },
): Promise<string> {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, () => keyAnswer({ scopes: ["orders:read"] }));
  return await listening(t, withExpress(mcpGate(client, options), application));
}

/** Responds with all entries to every message. */
const answering =
  (more: object = {}): Application =>
  (request, response) => {
    const messages = [request.body].flat() as { id: number }[];
    const all = messages.map(({ id }) => ({ jsonrpc: "2.0", id, result: { ...entries, ...more } }));
    response.setHeader("content-type", "application/json; charset=utf-8");
    response.end(JSON.stringify(Array.isArray(request.body) ? all : all[0]));
  };

async function resultOf(response: Response): Promise<object> {
  const { length } = new Uint8Array(await response.clone().arrayBuffer());
  assert.equal(Number(response.headers.get("content-length")), length);
  return ((await response.json()) as { result: object }).result;
}

test("mcp: lists contain only what the key may use, and everything else stays", async (t) => {
  const url = await gated(t, answering({ nextCursor: "c", ttlMs: 5, cacheScope: "public" }));
  const more = { nextCursor: "c", ttlMs: 5, cacheScope: "private" };
  assert.deepEqual(await resultOf(await post(url, rpc("tools/list"))), { ...entries, tools, ...more });
  assert.deepEqual(await resultOf(await post(url, rpc("resources/list"))), {
    ...entries,
    resources,
    ...more,
  });
  const templates = await resultOf(await post(url, rpc("resources/templates/list")));
  assert.deepEqual(templates, { ...entries, resourceTemplates, ...more });
  // The policy does not govern prompts.
  assert.deepEqual(await resultOf(await post(url, rpc("prompts/list"))), { ...entries, ...more });
  const untouched = { ...entries, nextCursor: "c", ttlMs: 5, cacheScope: "public" };
  const call = rpc("tools/call", { name: "list_orders" });
  assert.deepEqual(await resultOf(await post(url, call)), untouched);
  const headers = { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list" };
  assert.deepEqual(await resultOf(await post(url, rpc("tools/list"), headers)), {
    ...entries,
    tools,
    ...more,
  });
});

test("mcp: a list without a cache scope gets none, and errors stay as they are", async (t) => {
  const plain = await gated(t, answering());
  assert.deepEqual(await resultOf(await post(plain, rpc("tools/list"))), { ...entries, tools });
  const error = { jsonrpc: "2.0", id: 1, error: { code: -32601, message: "no tools", data: entries } };
  const failing = await gated(t, (_request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(error));
  });
  assert.deepEqual(await (await post(failing, rpc("tools/list"))).json(), error);
  const open = await gated(t, answering(), { policy, filterLists: false });
  assert.deepEqual(
    ((await (await post(open, rpc("tools/list"))).json()) as { result: object }).result,
    entries,
  );
});

test("mcp: each list of a batch is filtered by its own request", async (t) => {
  const url = await gated(t, answering());
  const batch = [rpc("tools/list", {}, 1), rpc("tools/call", { name: "list_orders" }, 2)];
  const answer = (await (await post(url, batch)).json()) as { result: object }[];
  assert.deepEqual(
    answer.map(({ result }) => result),
    [{ ...entries, tools }, entries],
  );
});

test("mcp: a method's entry hides what cannot be called without it", async (t) => {
  const methods = { "tools/call": { scopes: ["mcp:call"] } };
  const url = await gated(t, answering(), { policy: { methods } });
  assert.deepEqual(await resultOf(await post(url, rpc("tools/list"))), { ...entries, tools: [] });
});

test("mcp: lists in event streams are filtered, also in a stream that is resumed", async (t) => {
  const result = { jsonrpc: "2.0", id: 1, result: entries };
  const progress = { jsonrpc: "2.0", method: "notifications/progress", params: entries };
  const stream = `: hello\n\nid: 7\nevent: message\ndata: ${JSON.stringify(progress)}\n\nid: 8\ndata: ${JSON.stringify(result)}\n\n`;
  const url = await gated(t, (_request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (const part of stream.match(/[\s\S]{1,7}/g) ?? []) response.write(part);
    response.end();
  });
  const filtered = (listed: object): string =>
    stream.replace(JSON.stringify(result), JSON.stringify({ ...result, result: { ...entries, ...listed } }));
  assert.equal(await (await post(url, rpc("tools/list"))).text(), filtered({ tools }));
  assert.equal(await (await post(url, rpc("tools/call", { name: "list_orders" }))).text(), stream);
  const headers = { authorization: "Bearer ta_key", "last-event-id": "6" };
  const resumed = await (await fetch(url, { headers })).text();
  assert.equal(resumed, filtered({ tools, resources, resourceTemplates }));
});

test("mcp: the application compresses no list, and one that is compressed is not sent", async (t) => {
  const accepted: unknown[] = [];
  const url = await gated(t, (request, response) => {
    accepted.push(request.headers["accept-encoding"]);
    response.writeHead(200, { "Content-Type": "application/json", "Content-Encoding": "gzip" });
    response.end("secret");
  });
  const response = await post(url, rpc("tools/list"), { "accept-encoding": "gzip" });
  assert.deepEqual([response.status, accepted], [503, [undefined]]);
  assert.doesNotMatch(await response.text(), /secret/);
});

test("mcp: events are passed on whole, whatever their line ends and pieces", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const stream = ["id: 1", "data: ü", "data: b", "", ": note", "", "data: c", "", ""].join(end);
    for (const size of [1, 2, 3, 1000]) {
      const transform = eventTransform((text) => (text === "c" ? "C" : text));
      const bytes = Buffer.from(stream);
      let out = "";
      for (let at = 0; at < bytes.length; at += size) out += transform.write(bytes.subarray(at, at + size));
      out += transform.end();
      const events = out.split(/(?:\r\n|\n|\r(?!\n)){2}/).filter((event) => event.trim() !== "");
      assert.deepEqual(
        events.map((event) => event.trim().split(/\r\n|\n|\r/)),
        [["id: 1", "data: ü", "data: b"], [": note"], ["data: C"]],
        JSON.stringify([end, size]),
      );
    }
  }
});
