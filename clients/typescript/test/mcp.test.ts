import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth as sdkRequireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import express, { type RequestHandler } from "express";
import type { Client } from "../src/client.js";
import { TenantAuthError } from "../src/error.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { KeyDeniedError, KeyVerifier, principalFrom, requireBearerAuth, requireSession } from "../src/mcp.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
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
  const server = app.listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
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

test("mcp: the SDK's own middleware takes the verifier", async (t) => {
  const { fake, ask } = await serving(t, (client) => [
    sdkRequireBearerAuth({ verifier: new KeyVerifier(client), requiredScopes: ["orders:read"] }),
  ]);
  fake.answer(validateKey, () => keyAnswer());
  const good = await ask();
  assert.equal(good.status, 200);
  assert.equal(((await good.json()) as { tenantId: string }).tenantId, "ten_1");
  fake.answer(validateKey, () => keyAnswer({ scopes: [] }));
  assert.equal((await ask()).status, 403);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED }));
  const revoked = await ask();
  assert.equal(revoked.status, 401);
  assert.match(revoked.headers.get("www-authenticate") ?? "", /^Bearer error="invalid_token"/);
  // It knows no 503; at least it is no 401.
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  assert.equal((await ask()).status, 500);
});

test("mcp: the verifier says what it found, and when the key ends", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  const verifier = new KeyVerifier(client);
  const end = Date.now() + 60_000;
  fake.answer(validateKey, () => keyAnswer({ expiresAt: end }));
  const auth = await verifier.verifyAccessToken("ta_key");
  assert.deepEqual([auth.token, auth.clientId, auth.scopes], ["ta_key", "key_1", ["orders:read"]]);
  assert.equal(auth.expiresAt, Math.ceil(end / 1000));
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.EXPIRED }));
  await assert.rejects(verifier.verifyAccessToken("ta_key"), InvalidTokenError);
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.TENANT_SUSPENDED }));
  const denied = (error: unknown): boolean =>
    error instanceof KeyDeniedError && error.verdict === "TENANT_SUSPENDED";
  await assert.rejects(verifier.verifyAccessToken("ta_key"), denied);
  fake.answer(validateKey, () => Promise.reject(invalid("key")));
  await assert.rejects(verifier.verifyAccessToken("ta_key"), InvalidTokenError);
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  await assert.rejects(verifier.verifyAccessToken("ta_key"), TenantAuthError);
});

test("mcp: good keys get through, and each denial has its status", async (t) => {
  const { fake, ask, errors } = await serving(t, guarded);
  fake.answer(validateKey, () => keyAnswer());
  assert.equal((await ask()).status, 200);
  assert.equal(fake.calls.length, 1);
  const denials = [
    [{ verdict: Verdict.UNKNOWN }, 401],
    [{ verdict: Verdict.EXPIRED }, 401],
    [{ scopes: [] }, 403],
    [{ verdict: Verdict.TENANT_SUSPENDED }, 403],
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

test("mcp: a broken auth service is 503, never 401", async (t) => {
  const { fake, ask, errors } = await serving(t, guarded);
  fake.answer(validateKey, () => Promise.reject(unavailable(3000)));
  const response = await ask();
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "3");
  assert.equal(response.headers.get("www-authenticate"), null);
  assert.equal(errors.length, 1);
});

test("mcp: a session passes while it is bound to the key's tenant", async (t) => {
  const { fake, ask, errors } = await serving(t, (client, onError) => [
    requireBearerAuth(client),
    requireSession(client, { onError }),
  ]);
  fake.answer(validateKey, () => keyAnswer());
  assert.equal((await ask()).status, 200);
  const headers = { authorization: "Bearer ta_key", "mcp-session-id": "s1" };
  fake.answer(validateSession, () => keyAnswer());
  assert.equal((await ask(headers)).status, 200);
  const [asked] = fake.callsOf(validateSession);
  assert.deepEqual([asked?.request.sessionId, asked?.request.key], ["s1", "ta_key"]);
  for (const [verdict, status] of [
    [Verdict.UNBOUND, 404],
    [Verdict.SESSION_EXPIRED, 404],
    [Verdict.TENANT_MISMATCH, 403],
    [Verdict.TENANT_SUSPENDED, 403],
  ] as const) {
    fake.answer(validateSession, () => ({ verdict }));
    assert.equal((await ask(headers)).status, status, Verdict[verdict]);
  }
  fake.answer(validateSession, () => Promise.reject(invalid("session_id")));
  assert.equal((await ask(headers)).status, 404);
  assert.deepEqual(errors, []);
  fake.answer(validateSession, () => Promise.reject(unavailable()));
  assert.equal((await ask(headers)).status, 503);
  assert.equal(errors.length, 1);
});
