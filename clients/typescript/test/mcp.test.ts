import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type {} from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import express, { type RequestHandler } from "express";
import type { Client } from "../src/client.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { principalFrom, requireBearerAuth, requireSession } from "../src/mcp.js";
import { listening } from "./support/adapters.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected } from "./support/setup.js";

const { validateKey, validateSession } = ValidationService.method;

interface Setup {
  readonly fake: Fake;
  readonly client: Client;
  readonly ask: (headers?: Record<string, string>) => Promise<Response>;
  readonly errors: unknown[];
}

async function serving(
  t: TestContext,
  guard: (client: Client, onError: (e: unknown) => void) => RequestHandler[],
): Promise<Setup> {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  const errors: unknown[] = [];
  const app = express();
  app.get("/", ...guard(client, (error) => errors.push(error)), (request, response) => {
    response.json(principalFrom(request.auth));
  });
  const url = await listening(t, app);
  const ask: Setup["ask"] = (headers = { authorization: "Bearer ta_key" }) => fetch(url, { headers });
  return { fake, client, ask, errors };
}

const guarded = (client: Client, onError: (e: unknown) => void): RequestHandler[] => [
  requireBearerAuth(client, {
    requiredScopes: ["orders:read"],
    resourceMetadataUrl: "https://mcp.test/meta",
    onError,
  }),
];

test("mcp: valid keys are admitted, and each denial has its status", async (t) => {
  const { fake, ask, errors } = await serving(t, guarded);
  fake.answer(validateKey, () => keyAnswer());
  assert.equal((await ask()).status, 200);
  assert.equal(fake.calls.length, 1);
  const denials = [
    [{ verdict: Verdict.UNKNOWN }, 401],
    [{ verdict: Verdict.EXPIRED }, 401],
    [{ verdict: Verdict.INSUFFICIENT_SCOPE }, 403],
    [{ verdict: Verdict.DISABLED }, 403],
    [{ verdict: Verdict.TENANT_SUSPENDED }, 403],
    [{ verdict: Verdict.ADDRESS_REQUIRED }, 403],
    [{ verdict: Verdict.ADDRESS_NOT_ALLOWED }, 403],
    [{ verdict: Verdict.RATE_LIMITED }, 429],
  ] as const;
  for (const [said, status] of denials) {
    fake.answer(validateKey, () => keyAnswer({ ...said, scopes: [] }));
    assert.equal((await ask()).status, status, JSON.stringify(said));
  }
  const missing = await ask({});
  assert.equal(missing.status, 401);
  assert.match(
    missing.headers.get("www-authenticate") ?? "",
    /resource_metadata="https:\/\/mcp\.test\/meta"/,
  );
  assert.deepEqual(errors, []);
});

test("mcp: a service failure is 503, never 401", async (t) => {
  const { fake, ask, errors } = await serving(t, guarded);
  fake.answer(validateKey, () => Promise.reject(unavailable(3000)));
  const response = await ask();
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "3");
  assert.equal(response.headers.get("www-authenticate"), null);
  assert.equal(errors.length, 1);
});

test("mcp: a session is admitted while it belongs to the key's tenant", async (t) => {
  const { fake, ask, errors } = await serving(t, (client, onError) => [
    requireBearerAuth(client),
    requireSession(client, { onError }),
  ]);
  fake.answer(validateKey, () => keyAnswer());
  assert.equal((await ask()).status, 200);
  const headers = { authorization: "Bearer ta_key", "mcp-session-id": "s1" };
  // Another key of the tenant opened it.
  fake.answer(validateSession, () => keyAnswer({ keyId: "key_opener" }));
  assert.equal((await ask(headers)).status, 200);
  const [asked] = fake.callsOf(validateSession);
  assert.deepEqual([asked?.request.sessionId, asked?.request.key], ["s1", ""]);
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
    [{ verdict: 99 as Verdict }, 403, "UNRECOGNIZED"],
  ] as const) {
    fake.answer(validateSession, () => said);
    const response = await ask(headers);
    assert.deepEqual([response.status, ((await response.json()) as { code: string }).code], [status, code]);
  }
  fake.answer(validateSession, () => Promise.reject(invalid("session_id")));
  assert.equal((await ask(headers)).status, 404);
  assert.deepEqual(errors, []);
  fake.answer(validateSession, () => Promise.reject(unavailable()));
  assert.equal((await ask(headers)).status, 503);
  assert.equal(errors.length, 1);
});

test("mcp: a malformed session id is 404 without a call", async (t) => {
  const { fake, ask } = await serving(t, (client) => [requireBearerAuth(client), requireSession(client)]);
  fake.answer(validateKey, () => keyAnswer());
  for (const id of ["", "a b", "x".repeat(1025)]) {
    const headers = { authorization: "Bearer ta_key", "mcp-session-id": id };
    assert.equal((await ask(headers)).status, 404, JSON.stringify(id));
  }
  assert.equal(fake.callsOf(validateSession).length, 0);
  // Without a preceding key check, there is no tenant to compare with.
  const alone = await serving(t, (client) => [requireSession(client)]);
  assert.equal((await alone.ask({ "mcp-session-id": "s" })).status, 401);
});

test("mcp: rotation keeps sessions, and ended sessions are 404", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const app = express();
  app.get("/", requireBearerAuth(client), requireSession(client), (request, response) => {
    response.json(principalFrom(request.auth)?.keyId);
  });
  const url = await listening(t, app);
  const ask = async (presented: string): Promise<[number, string | undefined]> => {
    const headers = { authorization: `Bearer ${presented}`, "mcp-session-id": "s" };
    const response = await fetch(url, { headers });
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
  const [status] = await ask(successor.plaintext);
  assert.equal(status, 404);
  await client.sessions.bind({ sessionId: "t", key: successor.plaintext, ttlMs: 3_600_000 });
  await client.sessions.unbind("t", "ten_demo");
  const headers = { authorization: `Bearer ${successor.plaintext}`, "mcp-session-id": "t" };
  assert.equal((await fetch(url, { headers })).status, 404);
});
