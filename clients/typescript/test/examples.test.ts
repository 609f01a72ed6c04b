import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Client as McpClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { UsageService } from "../src/gen/tenantauth/v1/usage_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { Fake } from "./support/fake.js";
import { ours } from "./support/process.js";
import { raw } from "./support/raw-request.js";
import { clientOf, startService, withService } from "./support/service.js";
import { until } from "./support/until.js";

const { validateKey, validateSession } = ValidationService.method;
const { bindSession, unbindSession } = SessionService.method;
const { recordUsage } = UsageService.method;

test("examples: the HTTP API admits the demo key of the real service", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const api = ours(t, "examples/http-api", { TENANT_AUTH_ENDPOINTS: endpoint, PORT: "0" });
  const url = await api.said(/^listening on (\S+)$/);
  const ask = async (authorization: string, method = "GET"): Promise<number> =>
    (await fetch(`${url}/orders`, { method, headers: { authorization } })).status;
  assert.equal(await ask(`Bearer ${key}`), 200);
  assert.equal(await ask(`Bearer ${key}`, "POST"), 201);
  assert.equal(await ask("Bearer somebody-elses"), 401);
  api.stop();
  assert.equal(await api.ended, 0);
});

test("examples: the worker records usage for each job", async (t) => {
  const fake = await fakeService(t);
  const worker = ours(t, "examples/worker", { TENANT_AUTH_ENDPOINTS: fake.endpoint });
  worker.write('{"tenant_id":"ten_1","text":"to be or not to be"}\n{"tenant_id":"ten_2","text":"that is"}\n');
  worker.endInput();
  assert.equal(await worker.ended, 0);
  const events = fake.callsOf(recordUsage).flatMap(({ request }) => request.events);
  assert.deepEqual(
    events.map(({ tenantId, metric, quantity }) => [tenantId, metric, quantity]),
    [
      ["ten_1", "words.counted", 6n],
      ["ten_2", "words.counted", 2n],
    ],
  );
});

test("examples: the worker prints unrecorded usage", async (t) => {
  const fake = await fakeService(t);
  fake.answer(recordUsage, () => Promise.reject(unavailable()));
  const worker = ours(t, "examples/worker", { TENANT_AUTH_ENDPOINTS: fake.endpoint, PATIENCE_MS: "100" });
  worker.write('{"tenant_id":"ten_1","text":"to be"}\n');
  worker.endInput();
  assert.equal(await worker.ended, 1);
  assert.match(
    worker.complaints.join("\n"),
    /not recorded: \{"requestId":"[0-9a-f-]{36}","events":\[\{"tenantId":"ten_1"/,
  );
});

test("examples: an MCP client opens a session, and its tool call is recorded", async (t) => {
  const fake = await fakeService(t);
  const { url, connect, stop } = await mcpServer(t, fake);
  const { client, transport } = await connect("ta_key");
  const { tools } = await client.listTools();
  assert.deepEqual(
    tools.map(({ name }) => name),
    ["count_words"],
  );
  const answer = await client.callTool({ name: "count_words", arguments: { text: "to be or not" } });
  assert.deepEqual(answer.content, [{ type: "text", text: "4 words, counted for Acme" }]);

  const [bound] = fake.callsOf(bindSession);
  assert.deepEqual([bound?.request.sessionId, bound?.request.key], [transport.sessionId, "ta_key"]);
  assert.deepEqual(bound?.request.attributes, { client: "a test" });
  assert.equal(bound?.request.clientAddress, "127.0.0.1");
  const [validated] = fake.callsOf(validateSession);
  assert.deepEqual([validated?.request.sessionId, validated?.request.key], [transport.sessionId, ""]);

  // Neither a key of another tenant nor an unknown key opens this session.
  const as = async (key: string): Promise<number> => {
    const headers = { authorization: `Bearer ${key}`, "mcp-session-id": transport.sessionId ?? "" };
    return (await fetch(url, { method: "POST", headers })).status;
  };
  assert.equal(await as("ta_other"), 404);
  assert.equal(await as("ta_nobody"), 401);

  await transport.terminateSession();
  assert.equal(fake.callsOf(unbindSession)[0]?.request.sessionId, bound?.request.sessionId);
  await client.close();
  await stop();
  const [metered] = fake.callsOf(recordUsage).flatMap(({ request }) => request.events);
  assert.deepEqual([metered?.tenantId, metered?.metric, metered?.quantity], ["ten_1", "mcp.tool_calls", 1n]);
});

test(
  "examples: the MCP server on the real service: one request, one key, one session",
  withService,
  async (t) => {
    const { endpoint, key } = await startService(t);
    const { url, connect } = await mcpServer(t, { endpoint });
    const { client, transport } = await connect(key);
    const answer = await client.callTool({ name: "count_words", arguments: { text: "to be" } });
    assert.deepEqual(answer.content, [{ type: "text", text: "2 words, counted for Demo" }]);
    const session = transport.sessionId ?? "";
    const ask = async (...headers: string[]): Promise<unknown[]> => {
      const accept = ["accept", "application/json, text/event-stream", "content-type", "application/json"];
      const { status, body } = await raw(url, [...accept, ...headers], "POST");
      return [status, body.code];
    };
    const good = ["Authorization", `Bearer ${key}`];
    const isAmbiguous = [400, "AMBIGUOUS_REQUEST"];
    assert.deepEqual(await ask(...good, ...good, "Mcp-Session-Id", session), isAmbiguous);
    assert.deepEqual(
      await ask(...good, "Authorization", "Bearer other", "Mcp-Session-Id", session),
      isAmbiguous,
    );
    assert.deepEqual(await ask(...good, "Mcp-Session-Id", session, "Mcp-Session-Id", session), isAmbiguous);
    assert.deepEqual(await ask("Mcp-Session-Id", session), [401, "NO_CREDENTIALS"]);
    for (const id of ["nobody's", "a b", "x".repeat(200), ""]) {
      assert.deepEqual(await ask(...good, "Mcp-Session-Id", id), [404, "UNBOUND"], id);
    }
    for (const name of [" a\nb\u200b ", `${"x".repeat(63)} y`, "\ud83d\ude00".repeat(64)]) {
      await (await connect(key, name)).client.close();
    }
    const operator = clientOf(t, endpoint, { timeoutMs: 10_000 });
    await operator.sessions.unbind(session, "ten_demo");
    await until(
      "the session is over",
      async () => (await ask(...good, "Mcp-Session-Id", session))[0] === 404,
    );
    await client.close();
  },
);

test("examples: the MCP server opens no session that cannot be bound", async (t) => {
  const fake = await fakeService(t);
  const { connect } = await mcpServer(t, fake);
  await assert.rejects(connect("ta_nobody"), /401|API key/);
  fake.answer(bindSession, () => ({ verdict: Verdict.TENANT_MISMATCH }));
  await assert.rejects(connect("ta_key"), /session_not_bound/);
  fake.answer(bindSession, () => Promise.reject(unavailable()));
  await assert.rejects(connect("ta_key"), /try again/);
});

/** A service where `ta_key` belongs to ten_1, `ta_other` to ten_2, and all other keys are unknown. */
async function fakeService(t: TestContext): Promise<Fake> {
  const fake = await Fake.start();
  t.after(() => fake.close());
  const tenant = (key: string): string => (key === "ta_key" ? "ten_1" : "ten_2");
  fake.answer(validateKey, ({ key }) =>
    ["ta_key", "ta_other"].includes(key)
      ? keyAnswer({ tenantId: tenant(key) })
      : { verdict: Verdict.UNKNOWN },
  );
  fake.answer(bindSession, ({ sessionId }) => ({ verdict: Verdict.VALID, session: { sessionId } }));
  fake.answer(validateSession, () => keyAnswer());
  fake.answer(unbindSession, () => ({ wasBound: true }));
  fake.answer(recordUsage, ({ events }) => ({ accepted: events.length }));
  return fake;
}

interface Connection {
  readonly client: McpClient;
  readonly transport: StreamableHTTPClientTransport;
}

async function mcpServer(
  t: TestContext,
  fake: { readonly endpoint: string },
): Promise<{
  url: string;
  connect: (key: string, name?: string) => Promise<Connection>;
  stop: () => Promise<void>;
}> {
  const server = ours(t, "examples/mcp-server", { TENANT_AUTH_ENDPOINTS: fake.endpoint, PORT: "0" });
  const url = await server.said(/^listening on (\S+)$/);
  const connect = async (key: string, name = "a test"): Promise<Connection> => {
    const requestInit = { headers: { authorization: `Bearer ${key}` } };
    const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit });
    const client = new McpClient({ name, version: "1.0.0" });
    await client.connect(transport as Parameters<McpClient["connect"]>[0]);
    return { client, transport };
  };
  const stop = async (): Promise<void> => {
    server.stop();
    assert.equal(await server.ended, 0);
  };
  return { url, connect, stop };
}
