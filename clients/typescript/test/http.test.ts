import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import express from "express";
import fastify from "fastify";
import type { Client } from "../src/client.js";
import { requireKey as expressRequireKey } from "../src/express.js";
import { requireKey as fastifyRequireKey } from "../src/fastify.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { RequireKeyOptions } from "../src/http.js";
import { invalid, keyAnswer, overloaded, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { connected } from "./support/setup.js";
import { gate } from "./support/until.js";

const { validateKey } = ValidationService.method;
const options: RequireKeyOptions = { scopes: ["orders:read"], realm: "orders" };

type Server = (t: TestContext, client: Client, options: RequireKeyOptions) => Promise<string>;

const withExpress: Server = async (t, client, options) => {
  const app = express();
  app.get("/", expressRequireKey(client, options), (request, response) => {
    response.json(request.principal);
  });
  const server = app.listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const withFastify: Server = async (t, client, options) => {
  const app = fastify();
  app.get("/", { onRequest: fastifyRequireKey(client, options) }, async (request) => request.principal);
  t.after(() => app.close());
  return await app.listen({ port: 0, host: "127.0.0.1" });
};

async function serving(
  t: TestContext,
  server: Server,
): Promise<{ fake: Fake; url: string; errors: unknown[] }> {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0, timeoutMs: 500 });
  const errors: unknown[] = [];
  const url = await server(t, client, { ...options, onError: (error) => errors.push(error) });
  return { fake, url, errors };
}

const bearer = { authorization: "Bearer ta_key" };

const denials = [
  [Verdict.UNKNOWN, 401, /^Bearer realm="orders", error="invalid_token"$/],
  [Verdict.MALFORMED, 401, /^Bearer realm="orders", error="invalid_token"$/],
  [Verdict.EXPIRED, 401, /^Bearer realm="orders", error="invalid_token"$/],
  [Verdict.REVOKED, 401, /^Bearer realm="orders", error="invalid_token"$/],
  [
    Verdict.INSUFFICIENT_SCOPE,
    403,
    /^Bearer realm="orders", error="insufficient_scope", scope="orders:read"$/,
  ],
  [Verdict.TENANT_SUSPENDED, 403, undefined],
  [Verdict.QUOTA_EXCEEDED, 429, undefined],
  [Verdict.RATE_LIMITED, 429, undefined],
  [99, 403, undefined],
] as const;

const failures = [
  ["unavailable", () => Promise.reject(unavailable(1500)), "2"],
  ["overloaded", () => Promise.reject(overloaded(200)), "1"],
  ["late", () => gate<never>().passed, "1"],
  ["unserved", undefined, "1"],
  ["puzzled by more than the key", () => Promise.reject(invalid("key", "required_scopes[0]")), "1"],
] as const;

for (const [name, server] of [
  ["Express", withExpress],
  ["Fastify", withFastify],
] as const) {
  test(`${name}: a good key gets through, and the handler knows whose it is`, async (t) => {
    const { fake, url } = await serving(t, server);
    fake.answer(validateKey, () => keyAnswer());
    const response = await fetch(url, { headers: { authorization: "bearer  ta_key" } });
    assert.equal(response.status, 200);
    const tenant = { tenantId: "ten_1", tenantName: "Acme", plan: "pro" };
    assert.deepEqual(await response.json(), { ...tenant, keyId: "key_1", scopes: ["orders:read"] });
    const [asked] = fake.callsOf(validateKey);
    assert.deepEqual([asked?.request.key, asked?.request.requiredScopes], ["ta_key", ["orders:read"]]);
  });

  test(`${name}: without a key the service is not asked`, async (t) => {
    const { fake, url } = await serving(t, server);
    for (const headers of [
      {},
      { authorization: "Basic abc" },
      { authorization: "Bearer" },
      { authorization: "Bearer a b" },
    ]) {
      const response = await fetch(url, { headers });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get("www-authenticate"), 'Bearer realm="orders"');
    }
    assert.equal(fake.calls.length, 0);
  });

  test(`${name}: each denial has its status`, async (t) => {
    const { fake, url, errors } = await serving(t, server);
    for (const [verdict, status, challenge] of denials) {
      fake.answer(validateKey, () =>
        keyAnswer({ verdict: verdict as Verdict, missingScopes: ["orders:read"] }),
      );
      const response = await fetch(url, { headers: bearer });
      assert.equal(response.status, status, `verdict ${verdict}`);
      const header = response.headers.get("www-authenticate");
      if (challenge === undefined) assert.equal(header, null);
      else assert.match(header ?? "", challenge);
      assert.doesNotMatch(await response.text(), /ta_key/);
    }
    assert.deepEqual(errors, []);
  });

  test(`${name}: a broken auth service is 503, never 401`, async (t) => {
    const { fake, url, errors } = await serving(t, server);
    for (const [what, answer, retryAfter] of failures) {
      if (answer !== undefined) fake.answer(validateKey, answer);
      else fake.forget(validateKey);
      const response = await fetch(url, { headers: bearer });
      assert.equal(response.status, 503, what);
      assert.equal(response.headers.get("retry-after"), retryAfter, what);
      assert.equal(response.headers.get("www-authenticate"), null);
    }
    assert.equal(errors.length, failures.length);
  });

  test(`${name}: a key that breaks the contract is the customer's mistake`, async (t) => {
    const { fake, url } = await serving(t, server);
    fake.answer(validateKey, () => Promise.reject(invalid("key")));
    assert.equal((await fetch(url, { headers: bearer })).status, 401);
  });
}
