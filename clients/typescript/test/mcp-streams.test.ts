import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { type TestContext, test } from "node:test";
import { SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { type McpGateOptions, mcpGate } from "../src/mcp.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { InvalidationScope } from "./support/fake-watch.js";
import { frameworks, listening, post, rpc } from "./support/gates.js";
import { until } from "./support/until.js";
import { heartbeat, watched } from "./support/watched.js";

const { validateKey, validateSession } = ValidationService.method;
const policy = { tools: { slow: { scopes: ["orders:read"] } } };
const STREAM = { "content-type": "text/event-stream" };
const call = (id: number): object => rpc("tools/call", { name: "slow", arguments: {} }, id);

async function gated(
  t: TestContext,
  framework: (typeof frameworks)[number][1],
  options: McpGateOptions = { policy },
) {
  const made = await watched(t);
  const { fake, watch, client, clock } = made;
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(validateSession, () => keyAnswer({ keyId: "key_opener" }));
  fake.answer(SessionService.method.bindSession, () => ({ verdict: Verdict.VALID }));
  const streams: ServerResponse[] = [];
  const application = (_request: unknown, response: ServerResponse): void => {
    streams.push(response);
    response.writeHead(200, STREAM);
    response.write(": open\n\n");
  };
  const url = await listening(t, framework(mcpGate(client, options), application));
  const timers = clock.waiting;
  const released = (): Promise<void> => until("the guards are released", () => clock.waiting <= timers);
  const revoke = (): void => {
    fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 11n }));
    watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  };
  return { ...made, url, streams, revoke, released };
}

/** The event that ends the answer to a request. */
const last = (id: number, code = "REVOKED", message = "The API key was revoked."): string =>
  `event: message\ndata: ${JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32001, message, data: { code } } })}\n\n`;

for (const [name, framework] of frameworks) {
  test(`mcp: ${name}: the event stream of a revoked key ends with an error response`, async (t) => {
    const { url, streams, revoke, released } = await gated(t, framework);
    const response = await post(url, call(7));
    const closed = new Promise((resolve) => streams[0]?.once("close", resolve));
    revoke();
    assert.equal(await response.text(), `: open\n\n${last(7)}`);
    await closed;
    // The application may write until it notices.
    assert.equal(streams[0]?.write("data: late\n\n"), true);
    await released();
  });

  test(`mcp: ${name}: a stream of GET just ends, and its next request is 401`, async (t) => {
    const { url, revoke, released } = await gated(t, framework);
    const headers = { authorization: "Bearer ta_key", "mcp-session-id": "s" };
    const response = await fetch(url, { headers });
    revoke();
    assert.equal(await response.text(), ": open\n\n");
    await released();
    assert.equal((await fetch(url, { headers })).status, 401);
  });
}

const [[, framework]] = frameworks;

test("mcp: a stream ends with its session, and when the key loses the scope of its tool", async (t) => {
  const { fake, watch, url } = await gated(t, framework);
  const ofSession = await post(url, call(1), { "mcp-session-id": "s" });
  const ofTool = await post(url, call(2));
  const ofPing = await post(url, rpc("ping", {}, 3));
  fake.answer(validateSession, () => ({ verdict: Verdict.UNBOUND }));
  watch.invalidate(InvalidationScope.SESSION, "s", 11n);
  assert.ok((await ofSession.text()).endsWith(last(1, "UNBOUND", "The request was denied.")));
  fake.answer(validateKey, () => keyAnswer({ scopes: [], revision: 12n }));
  watch.invalidate(InvalidationScope.KEY, "key_1", 12n);
  assert.ok((await ofTool.text()).endsWith(last(2, "INSUFFICIENT_SCOPE", "The API key lacks a scope.")));
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.TENANT_SUSPENDED, revision: 13n }));
  watch.invalidate(InvalidationScope.TENANT, "ten_1", 13n);
  assert.ok((await ofPing.text()).endsWith(last(3, "TENANT_SUSPENDED", "The tenant is suspended.")));
});

test("mcp: each request of a batch is answered at the end, and half an event is not completed", async (t) => {
  const { url, streams, revoke } = await gated(t, framework);
  const batch = await post(url, [call(1), call(2), rpc("notifications/x", {}, null)]);
  const half = await post(url, call(3));
  streams[1]?.write("data: {");
  revoke();
  assert.equal(await batch.text(), `: open\n\n${last(1)}${last(2)}`);
  assert.equal(await half.text(), ": open\n\ndata: {");
});

test("mcp: without a decision a stream ends as undecided", async (t) => {
  const { fake, watch, clock, url } = await gated(t, framework);
  const response = await post(url, call(1));
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  const before = fake.calls.length;
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  await until("it is validated again", () => fake.calls.length > before);
  let text: string | undefined;
  void response.text().then((all) => {
    text = all;
  });
  await until("it has ended", () => {
    if (text === undefined) clock.advance(50);
    return text !== undefined;
  });
  assert.ok(text?.endsWith(last(1, "UNDECIDED", "The API key could not be checked; try again.")));
});

test("mcp: a stream that ends or is left releases its guard", async (t) => {
  const { fake, client, watch, url, streams, released } = await gated(t, framework);
  const ended = await post(url, call(1));
  streams[0]?.end("data: 1\n\n");
  assert.equal(await ended.text(), ": open\n\ndata: 1\n\n");
  const leaving = new AbortController();
  const headers = { authorization: "Bearer ta_key" };
  await fetch(url, { headers, signal: leaving.signal });
  leaving.abort();
  await released();
  const before = fake.calls.length;
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  await heartbeat(client, watch, 12n);
  assert.equal(fake.calls.length, before);
});

test("mcp: back-pressure stays, and events are not delayed", async (t) => {
  const { url, streams } = await gated(t, framework);
  const response = await post(url, call(1));
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const read = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
  assert.equal(await read(), ": open\n\n");
  streams[0]?.write("data: 1\n\n");
  assert.equal(await read(), "data: 1\n\n");
  let written = 0;
  while (streams[0]?.write(`: ${"x".repeat(65_536)}\n\n`)) written += 1;
  assert.ok(written < 1000);
  streams[0]?.destroy();
});
