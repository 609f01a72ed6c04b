import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import * as sdkErrors from "@modelcontextprotocol/sdk/server/auth/errors.js";
import type { Client } from "../src/client.js";
import { TenantAuthError } from "../src/error.js";
import { requireKey as expressRequireKey } from "../src/express.js";
import { requireKey as fastifyRequireKey } from "../src/fastify.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { RequireKeyOptions } from "../src/http/admit.js";
import { undecidedLog } from "../src/http/undecided-log.js";
import { KeyVerifier, mcpGate } from "../src/mcp.js";
import { type Server, servers } from "./support/adapters.js";
import { invalid, keyAnswer, overloaded, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { raw } from "./support/raw-request.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected } from "./support/setup.js";
import { gate } from "./support/until.js";

const { validateKey } = ValidationService.method;
const options: RequireKeyOptions = { scopes: ["orders:read"], realm: "orders" };

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
  [Verdict.DISABLED, 403, undefined],
  [Verdict.TENANT_SUSPENDED, 403, undefined],
  [Verdict.ADDRESS_REQUIRED, 403, undefined],
  [Verdict.ADDRESS_NOT_ALLOWED, 403, undefined],
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

for (const [name, server] of servers) {
  test(`${name}: a valid key is admitted with its principal`, async (t) => {
    const { fake, url } = await serving(t, server);
    fake.answer(validateKey, () => keyAnswer());
    const response = await fetch(url, { headers: { authorization: "bearer  ta_key" } });
    assert.equal(response.status, 200);
    const tenant = { tenantId: "ten_1", tenantName: "Acme", plan: "pro" };
    assert.deepEqual(await response.json(), { ...tenant, keyId: "key_1", scopes: ["orders:read"] });
    const [asked] = fake.callsOf(validateKey);
    assert.deepEqual([asked?.request.key, asked?.request.requiredScopes], ["ta_key", ["orders:read"]]);
  });

  test(`${name}: without a key the service is not called`, async (t) => {
    const { fake, url } = await serving(t, server);
    for (const headers of [{}, { authorization: "Basic abc" }, { authorization: "Bearer" }] as Record<
      string,
      string
    >[]) {
      const response = await fetch(url, { headers });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get("cache-control"), "no-store");
      assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
      assert.deepEqual(await response.json(), {
        type: "about:blank",
        title: "Unauthorized",
        status: 401,
        detail: "An API key is required.",
        code: "NO_CREDENTIALS",
      });
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
      const body = await response.text();
      assert.doesNotMatch(body, /ta_key/);
      const problem = JSON.parse(body) as { code: string; missing_scopes?: string[] };
      assert.equal(problem.code, Verdict[verdict] ?? "UNRECOGNIZED");
      const lacks = verdict === Verdict.INSUFFICIENT_SCOPE ? ["orders:read"] : undefined;
      assert.deepEqual(problem.missing_scopes, lacks);
      assert.equal(response.headers.get("retry-after"), status === 429 ? "1" : null);
    }
    assert.deepEqual(errors, []);
  });

  test(`${name}: a service failure is 503, never 401`, async (t) => {
    const { fake, url, errors } = await serving(t, server);
    for (const [what, answer, retryAfter] of failures) {
      if (answer !== undefined) fake.answer(validateKey, answer);
      else fake.forget(validateKey);
      const response = await fetch(url, { headers: bearer });
      assert.equal(response.status, 503, what);
      assert.equal(response.headers.get("retry-after"), retryAfter, what);
      assert.equal(response.headers.get("www-authenticate"), null);
      assert.equal(((await response.json()) as { code: string }).code, "UNDECIDED");
    }
    assert.equal(errors.length, failures.length);
  });

  test(`${name}: a failing onError callback is ignored`, async (t) => {
    const warned = t.mock.method(process, "emitWarning", () => undefined);
    const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
    fake.answer(validateKey, () => Promise.reject(unavailable()));
    const onError = (): never => {
      throw new RangeError("ta_key");
    };
    const url = await server(t, client, { onError });
    assert.equal((await fetch(url, { headers: bearer })).status, 503);
    assert.equal(warned.mock.calls[0]?.arguments[0], "onError failed: RangeError");
  });

  test(`${name}: an invalid key is an error of the customer`, async (t) => {
    const { fake, url } = await serving(t, server);
    fake.answer(validateKey, () => Promise.reject(invalid("key")));
    assert.equal((await fetch(url, { headers: bearer })).status, 401);
  });

  test(`${name}: two credentials are rejected`, async (t) => {
    const { fake, client } = await connected(t, { nearCache: false });
    fake.answer(validateKey, () => keyAnswer());
    const url = await server(t, client, { header: ["authorization", "X-API-Key"], exempt: "/healthz" });
    const good = ["Authorization", "Bearer a"];
    for (const headers of [
      [...good, "Authorization", "Bearer b"],
      [...good, "authorization", "Bearer a"],
      [...good, "X-API-Key", "b"],
      [...good, "X-API-Key", ""],
      ["Authorization", "Basic YTpi", "X-API-Key", "a"],
      ["X-API-Key", "a", "x-api-key", "b"],
      ["Authorization", "Bearer a, Bearer b"],
      [...good, "Mcp-Session-Id", "s", "mcp-session-id", "t"],
    ]) {
      const { status, body } = await raw(url, headers);
      assert.equal(status, 400, headers.join(" "));
      assert.equal(body.code, "AMBIGUOUS_REQUEST");
      assert.equal((await raw(`${url}/healthz`, headers)).status, 200, "the adapter must ignore it");
    }
    assert.equal(fake.calls.length, 0);
    assert.equal((await raw(url, good)).status, 200);
    assert.equal((await raw(url, ["x-api-key", "a"])).status, 200);
    assert.equal(
      (await raw(url, [...good, "X-API-Key", " a "])).status,
      200,
      "the same key is one credential",
    );
    assert.deepEqual(
      fake.callsOf(validateKey).map(({ request }) => request.key),
      ["a", "a", "a"],
    );
  });

  test(`${name}: custom header, exempt paths and preflights`, async (t) => {
    const { fake, client } = await connected(t, { nearCache: false });
    fake.answer(validateKey, () => keyAnswer());
    const url = await server(t, client, { header: "X-API-Key", exempt: "/healthz" });
    const status = async (path: string, init: RequestInit = {}): Promise<number> =>
      (await fetch(`${url}${path}`, init)).status;
    assert.equal(await status("/", { headers: { "x-api-key": "ta_key" } }), 200);
    assert.equal(fake.callsOf(validateKey)[0]?.request.key, "ta_key");
    assert.equal(await status("/", { headers: { authorization: "Bearer ta_key" } }), 401);
    assert.equal(await status("/", { headers: { "x-api-key": "" } }), 401);
    assert.equal(await status("/healthz?probe"), 200);
    for (const path of ["/", "/h", "/healthz/", "/healthz/x"]) assert.equal(await status(path), 401, path);
    const preflight = { "access-control-request-method": "GET", origin: "https://a.test" };
    const asked = await raw(url, Object.entries(preflight).flat(), "OPTIONS");
    assert.deepEqual([asked.status, asked.body], [200, "nobody"]);
    assert.equal((await raw(url, [], "OPTIONS")).status, 401);
    for (const [name, value] of Object.entries(preflight))
      assert.equal((await raw(url, [name, value], "OPTIONS")).status, 401, `only ${name}`);
    assert.equal((await raw(url, Object.entries(preflight).flat(), "POST")).status, 401);
    const strict = await server(t, client, { allowPreflight: false });
    assert.equal((await raw(strict, Object.entries(preflight).flat(), "OPTIONS")).status, 401);
  });

  test(`${name}: keys of the real service`, withService, async (t) => {
    const { endpoint, key } = await startService(t);
    const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
    const url = await server(t, client, { scopes: ["demo:read"] });
    const ask = async (presented: string): Promise<[number | undefined, string | undefined]> => {
      const { status, body } = await raw(url, ["authorization", `Bearer ${presented}`]);
      return [status, body.code];
    };
    assert.deepEqual(await ask(key), [200, undefined]);
    assert.deepEqual(await ask("somebody-elses"), [401, "UNKNOWN"]);
    assert.deepEqual(await ask("x".repeat(9000)), [401, "MALFORMED"]);
    assert.deepEqual(await ask("k\u00e9y"), [401, "MALFORMED"]);
    assert.deepEqual(await ask("a b"), [401, "MALFORMED"]);
    const { admin } = client.raw;
    const poor = await admin.issueKey({ tenantId: "ten_demo", name: "poor", scopes: ["demo:x"] });
    assert.deepEqual(await ask(poor.plaintext), [403, "INSUFFICIENT_SCOPE"]);
    await admin.suspendTenant({ tenantId: "ten_demo", reason: "unpaid" });
    assert.deepEqual(await ask(key), [403, "TENANT_SUSPENDED"]);
    await admin.resumeTenant({ tenantId: "ten_demo" });
    await admin.revokeKey({ keyId: poor.key?.keyId ?? "", reason: "leaked" });
    assert.deepEqual(await ask(poor.plaintext), [401, "REVOKED"]);
  });
}

test("undecided requests are logged once per second without a key", () => {
  const lines: string[] = [];
  let now = 0;
  const log = undecidedLog(
    (line) => lines.push(line),
    () => now,
  );
  log(new TenantAuthError("UNAVAILABLE", "no answer", { reason: "DATABASE_TIMED_OUT", requestId: "r-1" }));
  for (let more = 0; more < 5; more += 1) log(new Error("ta_key"));
  now = 1000;
  log(new TypeError("ta_key"));
  assert.deepEqual(lines, [
    "tenant-auth: requests undecided: 1; last error: UNAVAILABLE: no answer (DATABASE_TIMED_OUT) request id r-1",
    "tenant-auth: requests undecided: 6; last error: TypeError",
  ]);
});

test("invalid adapter options are rejected immediately", async (t) => {
  const { client } = await connected(t);
  for (const [options, message] of [
    [{ scopes: "orders:read" }, /scopes must be a list of texts/],
    [{ scopes: null }, /scopes must be a list of texts/],
    [{ exempt: null }, /exempt must be a list of texts/],
    [{ header: null }, /header must be a list of texts/],
    [{ header: [] }, /header must be a header name/],
    [{ resourceMetadataUrl: 5 }, /resourceMetadataUrl must be 1 to 256 printable/],
    [{ exempt: [1] }, /exempt must be a list of texts/],
    [{ exempt: "healthz" }, /exempt must be paths such as "\/healthz", not "healthz"/],
    [{ header: "X API Key" }, /header must be header names such as "X-API-Key"/],
    [{ timeoutMs: 0 }, /timeoutMs must be more than 0/],
    [{ realm: "a\nb" }, /realm must be 1 to 256 printable/],
    [{ trustedProxies: "10.0.0.1" }, /trustedProxies must be a list of texts, such as \["10.0.0.0\/8"\]/],
    [{ trustedProxies: true }, /trustedProxies must be a list of texts/],
    [{ trustedProxies: ["loopback"] }, /trustedProxies must be networks or addresses .*, not "loopback"/],
    [{ trustedProxies: ["10.0.0.1:80"] }, /trustedProxies must be networks or addresses/],
    [{ clientAddressHeader: "X Real IP" }, /clientAddressHeader must be a header name such as "X-API-Key"/],
    [{ clientAddressHeader: null }, /clientAddressHeader must be a header name/],
    [{ onError: "log" }, /onError must be a function/],
    [{ scope: [] }, /options: unknown option "scope"/],
  ] as const) {
    assert.throws(() => expressRequireKey(client, options as unknown as RequireKeyOptions), message);
  }
  for (const none of [undefined, {}] as Client[]) {
    assert.throws(() => expressRequireKey(none), /client must have a method validateKey/);
    assert.throws(() => fastifyRequireKey(none), /client must have a method validateKey/);
    assert.throws(() => mcpGate(none), /client must have a method validateSession/);
    assert.throws(() => new KeyVerifier(none, sdkErrors), /client must have a method validateKey/);
  }
});
