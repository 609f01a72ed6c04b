import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import express, { type Express } from "express";
import express4 from "express4";
import fastify from "fastify";
import { TenantAuthError } from "../src/error.js";
import { requirePrincipal as expressRequirePrincipal } from "../src/express.js";
import { requirePrincipal as fastifyRequirePrincipal } from "../src/fastify.js";
import type { PrincipalTokenVerifier, RequirePrincipalOptions } from "../src/http/admit-principal.js";
import { PrincipalDeniedError } from "../src/principal-token/denied.js";
import { listening } from "./support/adapters.js";
import { token, verifying } from "./support/principal-tokens.js";
import { raw } from "./support/raw-request.js";

type Server = (
  t: TestContext,
  verifier: PrincipalTokenVerifier,
  options: RequirePrincipalOptions,
) => Promise<string>;

const withExpress =
  (make: () => Express): Server =>
  async (t, verifier, options) => {
    const app = make();
    app.use(expressRequirePrincipal(verifier, options), (request, response) => {
      response.json(request.verifiedPrincipal ?? "nobody");
    });
    return await listening(t, app);
  };

const withFastify: Server = async (t, verifier, options) => {
  const app = fastify();
  app.addHook("onRequest", fastifyRequirePrincipal(verifier, options));
  app.all("/*", async (request) => request.verifiedPrincipal ?? JSON.stringify("nobody"));
  t.after(() => app.close());
  return await app.listen({ port: 0, host: "127.0.0.1" });
};

const servers = [
  ["Express 5", withExpress(express)],
  ["Express 4", withExpress(express4 as unknown as () => Express)],
  ["Fastify", withFastify],
] as const satisfies readonly (readonly [string, Server])[];

const options: RequirePrincipalOptions = { scopes: ["orders:read"], realm: "orders" };
const header = "X-Tenant-Principal";

for (const [name, server] of servers) {
  test(`${name}: a principal token is admitted`, async (t) => {
    const one = await verifying(t);
    const url = await server(t, one.verifier, options);
    const { status, body } = await raw(url, [header, await token(one)]);
    assert.equal(status, 200);
    assert.deepEqual(body, {
      tenantId: "ten_1",
      keyId: "key_1",
      plan: "pro",
      scopes: ["orders:read", "orders:write"],
      omittedScopes: 0,
      revision: "10",
      issuedAt: "2026-01-01T00:00:00.000Z",
      expiresAt: "2026-01-01T00:01:00.000Z",
    });
  });

  test(`${name}: each refusal of a token has its status`, async (t) => {
    const refusals = {
      invalid: new PrincipalDeniedError("INVALID_PRINCIPAL", { part: "aud" }),
      poor: new PrincipalDeniedError("INSUFFICIENT_SCOPE", { missingScopes: ["orders:read"] }),
      outdated: new TenantAuthError("ABORTED", "changed", { kind: "outdated", retryAfterMs: 1000 }),
      undecided: new TenantAuthError("UNAVAILABLE", "no keys"),
    };
    const errors: unknown[] = [];
    const verify = (text: string): Promise<never> => Promise.reject(refusals[text as "invalid"]);
    const url = await server(t, { verify }, { ...options, onError: (error) => errors.push(error) });
    const poor = 'Bearer realm="orders", error="insufficient_scope", scope="orders:read"';
    for (const [text, code, status, challenge, retryAfter, missing] of [
      ["invalid", "INVALID_PRINCIPAL", 401, 'Bearer realm="orders", error="invalid_token"'],
      ["poor", "INSUFFICIENT_SCOPE", 403, poor, undefined, ["orders:read"]],
      ["outdated", "OUTDATED_PRINCIPAL", 503, undefined, "1"],
      ["undecided", "UNDECIDED", 503, undefined, "1"],
    ] as const) {
      const response = await raw(url, [header, text]);
      const { headers } = response;
      const body = response.body as { code: string; missing_scopes?: string[] };
      assert.deepEqual([response.status, body.code, body.missing_scopes], [status, code, missing], text);
      assert.deepEqual([headers["www-authenticate"], headers["retry-after"]], [challenge, retryAfter], text);
      assert.match(headers["content-type"] ?? "", /^application\/problem\+json/);
      assert.equal(headers["cache-control"], "no-store");
    }
    // An outdated token is not an outage.
    assert.deepEqual(errors, [refusals.undecided]);
  });

  test(`${name}: requests without one token`, async (t) => {
    const { verifier, ...one } = await verifying(t);
    const url = await server(t, verifier, { exempt: "/healthz" });
    const signed = await token(one);
    const status = async (path: string, headers: string[], method = "GET"): Promise<number | undefined> =>
      (await raw(`${url}${path}`, headers, method)).status;
    assert.equal(await status("/", []), 401);
    assert.equal(await status("/", [header, ""]), 401);
    assert.equal(await status("/", ["authorization", `Bearer ${signed}`]), 401);
    assert.equal(await status("/", [header, signed, header, signed]), 400);
    assert.equal(await status("/healthz?probe", []), 200);
    const preflight = ["access-control-request-method", "GET", "origin", "https://a.test"];
    assert.equal(await status("/", preflight, "OPTIONS"), 200);
    assert.equal(await status("/", preflight, "POST"), 401);
    const strict = await server(t, verifier, { allowPreflight: false, header: "X-Door" });
    assert.equal((await raw(strict, preflight, "OPTIONS")).status, 401);
    assert.equal((await raw(strict, ["x-door", signed])).status, 200);
    assert.equal((await raw(strict, [header, signed])).body.code, "NO_CREDENTIALS");
  });

  test(`${name}: required scopes are those of the token`, async (t) => {
    const one = await verifying(t);
    const url = await server(t, one.verifier, options);
    const poor = await token(one, { scope: "users:read" });
    assert.equal((await raw(url, [header, poor])).body.code, "INSUFFICIENT_SCOPE");
    const partial = await token(one, { scope: "users:read", scope_omitted: 1 });
    const { status, body } = await raw(url, [header, partial]);
    assert.deepEqual([status, body.code], [503, "UNDECIDED"]);
  });
}

test("invalid options of requirePrincipal are rejected", async (t) => {
  const { verifier } = await verifying(t);
  for (const [wrong, message] of [
    [{ scopes: "orders:read" }, /scopes must be a list of texts/],
    [{ header: ["a"] }, /header must be a header name/],
    [{ exempt: "healthz" }, /exempt must be paths such as "\/healthz", not "healthz"/],
    [{ allowPreflight: "no" }, /allowPreflight must be true or false/],
    [{ realm: "a\nb" }, /realm must be 1 to 256 printable/],
    [{ onError: "log" }, /onError must be a function/],
    [{ audience: "billing" }, /options: unknown option "audience"/],
  ] as const) {
    const given = wrong as unknown as RequirePrincipalOptions;
    assert.throws(() => expressRequirePrincipal(verifier, given), message);
    assert.throws(() => fastifyRequirePrincipal(verifier, given), message);
  }
  const none = {} as PrincipalTokenVerifier;
  const message = /verifier must have a method verify, such as a PrincipalVerifier/;
  assert.throws(() => expressRequirePrincipal(none), message);
  assert.throws(() => fastifyRequirePrincipal(none), message);
});
