import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SessionExpiry, SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { type McpGateOptions, mcpGate } from "../src/mcp.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { type Application, frameworks, listening, post, rpc } from "./support/gates.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected } from "./support/setup.js";
import { gate as barrier, until } from "./support/until.js";

const { validateKey, validateSession } = ValidationService.method;
const { bindSession, unbindSession } = SessionService.method;
const [[, withExpress]] = frameworks;

/** Opens the session s1 with `initialize`, and echoes it otherwise, like the SDKs. */
const sdkLike: Application = (request, response) => {
  const sessionId = request.headers["mcp-session-id"] ?? "s1";
  response.writeHead(200, { "Content-Type": "application/json", "Mcp-Session-Id": sessionId });
  response.write('{"jsonrpc":"2.0",');
  response.end('"id":1,"result":{}}');
};

interface Setup {
  readonly fake: Fake;
  readonly url: string;
  readonly errors: unknown[];
}

async function gated(
  t: TestContext,
  options: McpGateOptions = {},
  application: Application = sdkLike,
  framework: (typeof frameworks)[number][1] = withExpress,
): Promise<Setup> {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(validateSession, () => keyAnswer({ keyId: "key_opener" }));
  fake.answer(bindSession, ({ sessionId }) => ({ verdict: Verdict.VALID, session: { sessionId } }));
  fake.answer(unbindSession, () => ({ wasBound: true }));
  const errors: unknown[] = [];
  const gate = mcpGate(client, { onError: (error) => errors.push(error), ...options });
  return { fake, url: await listening(t, framework(gate, application)), errors };
}

for (const [name, framework] of frameworks) {
  test(`mcp: ${name}: a session is bound before the client gets its id`, async (t) => {
    const { fake, url } = await gated(t, { sessionTtlMs: 120_000 }, undefined, framework);
    const hold = barrier();
    fake.answer(bindSession, async () => {
      await hold.passed;
      return { verdict: Verdict.VALID };
    });
    let hasAnswered = false;
    const answering = post(url, rpc("initialize")).finally(() => {
      hasAnswered = true;
    });
    await until("the binding is asked for", () => fake.callsOf(bindSession).length === 1);
    assert.equal(hasAnswered, false);
    hold.open();
    const answer = await answering;
    assert.deepEqual([answer.status, answer.headers.get("mcp-session-id")], [200, "s1"]);
    assert.deepEqual(await answer.json(), { jsonrpc: "2.0", id: 1, result: {} });
    const [bound] = fake.callsOf(bindSession);
    const { sessionId, key, ttl, expiry, clientAddress } = bound?.request ?? {};
    assert.deepEqual([sessionId, key, ttl?.seconds], ["s1", "ta_key", 120n]);
    assert.deepEqual([expiry, clientAddress], [SessionExpiry.SLIDING, "127.0.0.1"]);

    const next = await post(url, rpc("tools/list"), { "mcp-session-id": "s1" });
    assert.equal(next.headers.get("mcp-session-id"), "s1");
    const [validated] = fake.callsOf(validateSession);
    assert.deepEqual([validated?.request.sessionId, validated?.request.key], ["s1", ""]);
    assert.equal(fake.callsOf(bindSession).length, 1);
  });
}

test("mcp: a session that cannot be bound is not opened, and the application gets its id", async (t) => {
  const unbound: string[] = [];
  const { fake, url, errors } = await gated(t, { onUnboundSession: (id) => unbound.push(id) });
  for (const [answer, status] of [
    [() => ({ verdict: Verdict.TENANT_MISMATCH }), 403],
    [() => ({ verdict: Verdict.RATE_LIMITED }), 429],
    [() => Promise.reject(unavailable()), 503],
  ] as const) {
    fake.answer(bindSession, answer);
    const response = await post(url, rpc("initialize"));
    assert.deepEqual([response.status, response.headers.get("mcp-session-id")], [status, null]);
    const { code } = (await response.json()) as { code: string };
    assert.match(code, /TENANT_MISMATCH|RATE_LIMITED|UNDECIDED/);
  }
  assert.deepEqual(unbound, ["s1", "s1", "s1"]);
  assert.equal(errors.length, 1);
});

test("mcp: the headers of a response stay, in whichever form the application gives them", async (t) => {
  const { url } = await gated(t, {}, (request, response) => {
    const flat = ["Mcp-Session-Id", "s1", "Set-Cookie", "a=1", "Set-Cookie", "b=2", "X-Count", 3];
    if (request.method === "POST") response.writeHead(202, "Taken", flat as string[]);
    else response.writeHead(202, { "Set-Cookie": ["a=1", "b=2"], "X-Count": 3 });
    response.flushHeaders();
    response.end(Buffer.from("done"));
  });
  const headers = { authorization: "Bearer ta_key" };
  for (const response of [await post(url, rpc("initialize")), await fetch(url, { headers })]) {
    assert.deepEqual([response.status, response.headers.get("x-count")], [202, "3"]);
    assert.deepEqual(response.headers.getSetCookie(), ["a=1", "b=2"]);
    assert.equal(await response.text(), "done");
  }
});

test("mcp: a session of an error response is not bound", async (t) => {
  const { fake, url } = await gated(t, {}, (_request, response) => {
    response.writeHead(400, { "Mcp-Session-Id": "s1" }).end();
  });
  const response = await post(url, rpc("initialize"));
  assert.deepEqual([response.status, response.headers.get("mcp-session-id")], [400, null]);
  assert.equal(fake.callsOf(bindSession).length, 0);
});

test("mcp: the binding ends when the application ends the session", async (t) => {
  let status = 405;
  const { fake, url, errors } = await gated(t, {}, (_request, response) => response.writeHead(status).end());
  const headers = { authorization: "Bearer ta_key", "mcp-session-id": "s1" };
  const end = async (): Promise<number> => (await fetch(url, { method: "DELETE", headers })).status;
  assert.equal(await end(), 405);
  assert.equal(fake.callsOf(unbindSession).length, 0);
  status = 200;
  assert.equal(await end(), 200);
  const { sessionId, tenantId } = fake.callsOf(unbindSession)[0]?.request ?? {};
  assert.deepEqual([sessionId, tenantId], ["s1", "ten_1"]);
  fake.answer(unbindSession, () => Promise.reject(unavailable()));
  assert.equal(await end(), 200, "the binding expires by itself");
  assert.equal(errors.length, 1);
});

test("mcp: revisions without sessions neither get nor open one", async (t) => {
  const { fake, url } = await gated(t);
  const headers = { "mcp-protocol-version": "2026-07-28", "mcp-session-id": "s-of-others" };
  const response = await post(url, rpc("initialize"), headers);
  assert.deepEqual([response.status, response.headers.get("mcp-session-id")], [200, null]);
  assert.equal(fake.callsOf(bindSession).length + fake.callsOf(validateSession).length, 0);
});

test("mcp: a session is admitted while it belongs to the key's tenant", async (t) => {
  const { fake, url, errors } = await gated(t);
  const ask = (): Promise<Response> => post(url, rpc("tools/list"), { "mcp-session-id": "s1" });
  for (const [said, status, code] of [
    [{ verdict: Verdict.UNBOUND }, 404, "UNBOUND"],
    [{ verdict: Verdict.SESSION_EXPIRED }, 404, "SESSION_EXPIRED"],
    [{ verdict: Verdict.REVOKED }, 404, "REVOKED"],
    [{ verdict: Verdict.EXPIRED }, 404, "EXPIRED"],
    [keyAnswer({ tenantId: "ten_2" }), 404, "TENANT_MISMATCH"],
    [{ verdict: Verdict.TENANT_SUSPENDED }, 403, "TENANT_SUSPENDED"],
    [{ verdict: Verdict.ADDRESS_REQUIRED }, 403, "ADDRESS_REQUIRED"],
    [{ verdict: Verdict.ADDRESS_NOT_ALLOWED }, 403, "ADDRESS_NOT_ALLOWED"],
    [{ verdict: Verdict.RATE_LIMITED }, 429, "RATE_LIMITED"],
  ] as const) {
    fake.answer(validateSession, () => said);
    const response = await ask();
    assert.deepEqual([response.status, ((await response.json()) as { code: string }).code], [status, code]);
  }
  // Until it is updated, a service may accept fewer characters.
  fake.answer(validateSession, () => Promise.reject(invalid("session_id")));
  assert.equal((await ask()).status, 404);
  assert.deepEqual(errors, []);
  fake.answer(validateSession, () => Promise.reject(unavailable()));
  assert.equal((await ask()).status, 503);
  assert.equal(errors.length, 1);
});

test("mcp: rotation keeps sessions, and ended sessions are 404", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const url = await listening(t, withExpress(mcpGate(client), sdkLike));
  const ask = async (presented: string, id = "s"): Promise<[number, string | undefined]> => {
    const response = await post(url, rpc("tools/list"), { "mcp-session-id": id }, presented);
    return [response.status, ((await response.json()) as { code?: string }).code];
  };
  const { admin } = client.raw;
  await client.sessions.bind({ sessionId: "s", key, ttlMs: 3_600_000 });
  assert.deepEqual(await ask(key), [200, undefined]);
  const { keyId } = await client.requireKey(key);
  const successor = await admin.rotateKey({ keyId });
  assert.deepEqual(await ask(successor.plaintext), [200, undefined]);
  await admin.createTenant({ tenantId: "foreign", name: "Foreign", plan: "pro" });
  const foreign = await admin.issueKey({ tenantId: "foreign", name: "theirs", scopes: [] });
  assert.deepEqual(await ask(foreign.plaintext), [404, "TENANT_MISMATCH"]);
  const gone = await admin.issueKey({ tenantId: "ten_demo", name: "gone", scopes: [] });
  await admin.revokeKey({ keyId: gone.key?.keyId ?? "", reason: "leaked" });
  assert.deepEqual(await ask(gone.plaintext), [401, "REVOKED"]);
  await admin.revokeKey({ keyId, reason: "leaked" });
  assert.equal((await ask(successor.plaintext))[0], 404);
  const opened = await post(url, rpc("initialize"), {}, successor.plaintext);
  assert.equal(opened.headers.get("mcp-session-id"), "s1");
  assert.deepEqual(await ask(successor.plaintext, "s1"), [200, undefined]);
  await client.sessions.unbind("s1", "ten_demo");
  assert.equal((await ask(successor.plaintext, "s1"))[0], 404);
});
