import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { clientAddressFrom, type McpGateOptions, mcpGate, principalFrom } from "../src/mcp.js";
import { UsageQueueFullError } from "../src/recorder.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import { type Application, frameworks, type Gated, listening, post, rpc } from "./support/gates.js";
import { raw } from "./support/raw-request.js";
import { connected } from "./support/setup.js";
import { until } from "./support/until.js";

const { validateKey } = ValidationService.method;
const policy = {
  tools: { list_orders: { scopes: ["orders:read"] }, refund_order: { scopes: ["orders:write"] } },
};

interface Setup {
  readonly fake: Fake;
  readonly url: string;
  readonly errors: unknown[];
}

async function gated(
  t: TestContext,
  options: McpGateOptions = {},
  application: Application = (request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ principal: principalFrom(request.auth), body: request.body }));
  },
  framework: (typeof frameworks)[number][1] = frameworks[0][1],
): Promise<Setup> {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  fake.answer(validateKey, () => keyAnswer());
  const errors: unknown[] = [];
  const gate = mcpGate(client, { onError: (error) => errors.push(error), ...options });
  return { fake, url: await listening(t, framework(gate, application)), errors };
}

const call = (name: string): object => rpc("tools/call", { name, arguments: {} });

for (const [name, framework] of frameworks) {
  test(`mcp: ${name}: the application gets the principal and the judged body, however it reads it`, async (t) => {
    const seen: unknown[] = [];
    const respond = async (request: Gated & { rawBody?: Buffer }): Promise<void> => {
      const { body, auth, rawBody } = request;
      seen.push(principalFrom(auth)?.tenantId, clientAddressFrom(auth), body);
      seen.push(JSON.parse(String(rawBody)), JSON.parse(await text(request)));
    };
    const application: Application = (request, response) => void respond(request).then(() => response.end());
    const { url } = await gated(t, { policy }, application, framework);
    // The parser of the gate takes the last member of the arguments, and so does everyone behind it.
    const sent =
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_orders","arguments":{"a":1,"a":2}}}';
    assert.equal((await post(url, sent)).status, 200);
    const judged = rpc("tools/call", { name: "list_orders", arguments: { a: 2 } });
    assert.deepEqual(seen, ["ten_1", "127.0.0.1", judged, judged, judged]);
  });

  test(`mcp: ${name}: a body arrives in pieces, and a large one is 413`, async (t) => {
    const { url } = await gated(t, { policy, maxBodyBytes: 300_000 }, undefined, framework);
    const of = (length: number): object =>
      rpc("tools/call", { name: "list_orders", arguments: { a: "x".repeat(length) } });
    const good = await post(url, of(200_000));
    assert.equal(good.status, 200);
    assert.deepEqual(((await good.json()) as { body: object }).body, of(200_000));
    const large = await post(url, of(400_000));
    assert.deepEqual(
      [large.status, ((await large.json()) as { code: string }).code],
      [413, "CONTENT_TOO_LARGE"],
    );
    const pieces = new Blob([JSON.stringify(of(400_000))]).stream();
    const headers = { authorization: "Bearer ta_key", "content-type": "application/json" };
    const streamed = await fetch(url, {
      method: "POST",
      headers,
      body: pieces,
      duplex: "half",
    } as RequestInit);
    assert.equal(streamed.status, 413);
  });

  test(`mcp: ${name}: each denial has its status, and no decision is 503`, async (t) => {
    const { fake, url, errors } = await gated(t, { policy, scopes: ["orders:read"] }, undefined, framework);
    for (const [verdict, status] of [
      [Verdict.UNKNOWN, 401],
      [Verdict.EXPIRED, 401],
      [Verdict.DISABLED, 403],
      [Verdict.TENANT_SUSPENDED, 403],
      [Verdict.ADDRESS_NOT_ALLOWED, 403],
      [Verdict.RATE_LIMITED, 429],
    ] as const) {
      fake.answer(validateKey, () => keyAnswer({ verdict }));
      assert.equal((await post(url, call("list_orders"))).status, status, Verdict[verdict]);
    }
    fake.answer(validateKey, () => keyAnswer({ scopes: [] }));
    const lacking = await post(url, call("refund_order"));
    const challenge = 'Bearer error="insufficient_scope", scope="orders:read"';
    assert.deepEqual([lacking.status, lacking.headers.get("www-authenticate")], [403, challenge]);
    assert.deepEqual(errors, []);
    fake.answer(validateKey, () => Promise.reject(unavailable(3000)));
    const undecided = await post(url, call("list_orders"));
    assert.deepEqual([undecided.status, undecided.headers.get("retry-after")], [503, "3"]);
    assert.equal(errors.length, 1);
  });
}

test("mcp: the challenge names all scopes of the refused operations", async (t) => {
  const methods = { "tools/call": { scopes: ["mcp:call"] } };
  const tools = { refund_order: { scopes: ["orders:write", "orders:read"] } };
  const { fake, url } = await gated(t, { policy: { methods, tools }, scopes: ["mcp"], realm: "orders" });
  fake.answer(validateKey, () => keyAnswer({ scopes: ["mcp", "orders:read"] }));
  const refused = await post(url, call("refund_order"));
  assert.equal(
    refused.headers.get("www-authenticate"),
    'Bearer realm="orders", error="insufficient_scope", scope="mcp mcp:call orders:read orders:write"',
  );
  const { missing_scopes } = (await refused.json()) as { missing_scopes: string[] };
  assert.deepEqual(missing_scopes, ["mcp:call", "orders:write"]);
});

test("mcp: protected resource metadata is served only if it is configured", async (t) => {
  const bare = await gated(t, { policy });
  const path = "/.well-known/oauth-protected-resource/mcp";
  const root = (url: string): string => url.replace(/\/mcp$/, "");
  for (const probe of [path, "/.well-known/oauth-protected-resource"])
    assert.equal((await fetch(root(bare.url) + probe)).status, 404);
  const without = await fetch(bare.url, { method: "POST" });
  assert.deepEqual([without.status, without.headers.get("www-authenticate")], [401, "Bearer"]);
  assert.doesNotMatch(await without.text(), /oauth/i);

  const resource = "https://mcp.example.com/mcp";
  const { url } = await gated(t, { policy, resource, authorizationServers: ["https://auth.example.com"] });
  const served = await fetch(root(url) + path);
  assert.equal(served.status, 200);
  assert.deepEqual(await served.json(), {
    resource,
    authorization_servers: ["https://auth.example.com"],
    bearer_methods_supported: ["header"],
    scopes_supported: ["orders:read", "orders:write"],
  });
  const metadata = 'resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"';
  const missing = await fetch(url, { method: "POST" });
  assert.equal(missing.headers.get("www-authenticate"), `Bearer ${metadata}`);
  const refused = await post(url, call("refund_order"));
  const challenge = `Bearer error="insufficient_scope", scope="orders:write", ${metadata}`;
  assert.equal(refused.headers.get("www-authenticate"), challenge);
  assert.equal((await fetch(root(url) + path.replace(/\/mcp$/, ""))).status, 404);
});

test("mcp: preflights pass untouched, and exempt paths need no key", async (t) => {
  const { fake, url } = await gated(t, { policy, exempt: "/mcp" });
  assert.equal((await post(url, call("anything"), {}, "")).status, 200);
  const strict = await gated(t, { policy });
  const preflight = ["Origin", "https://a.test", "Access-Control-Request-Method", "POST"];
  assert.equal((await raw(strict.url, preflight, "OPTIONS")).status, 200);
  assert.equal((await raw(strict.url, preflight.slice(0, 2), "OPTIONS")).status, 401);
  assert.equal(fake.calls.length + strict.fake.calls.length, 0);
});

test("mcp: a call whose usage cannot be recorded is 503, and does not reach the application", async (t) => {
  const usage = {
    record: (): void => {
      throw new UsageQueueFullError();
    },
  };
  const metered = { tools: { list_orders: { usage: { metric: "mcp.tool_calls" } } } };
  const reached: unknown[] = [];
  const { url, errors } = await gated(t, { policy: metered, usage }, (request) => reached.push(request));
  const response = await post(url, call("list_orders"));
  assert.deepEqual([response.status, response.headers.get("retry-after")], [503, "1"]);
  assert.deepEqual([reached.length, errors.length], [0, 1]);
});

test("mcp: a key that is revoked while its client sends the body is rejected", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  const requests: IncomingMessage[] = [];
  const reached: unknown[] = [];
  const gate = mcpGate(client, { policy });
  const url = await listening(t, (request, response) => {
    requests.push(request);
    gate(request, response, (error) => {
      reached.push(error);
      response.end();
    });
  });
  const body = JSON.stringify(call("list_orders"));
  const headers = { authorization: "Bearer ta_key", "content-length": body.length };
  const slow = async (): Promise<ClientRequest> => {
    fake.answer(validateKey, () => keyAnswer());
    const asked = httpRequest(url, { method: "POST", headers, agent: false });
    asked.on("error", () => undefined);
    asked.write(body.slice(0, 10));
    const count = requests.length;
    await until("the body is read", () => (requests[count]?.listenerCount("readable") ?? 0) > 0);
    return asked;
  };
  for (const [verdict, status] of [
    [Verdict.VALID, 200],
    [Verdict.REVOKED, 401],
  ] as const) {
    const asked = await slow();
    fake.answer(validateKey, () => keyAnswer({ verdict }));
    asked.end(body.slice(10));
    const [response] = (await once(asked, "response")) as [IncomingMessage];
    response.resume();
    assert.equal(response.statusCode, status);
  }
  // A client that leaves does no harm.
  const leaving = await slow();
  leaving.destroy();
  await until("nobody reads", () => requests.at(-1)?.listenerCount("readable") === 0);
  assert.deepEqual(reached, [undefined]);
});

test("mcp: a body that is nested deeply, is empty, or is not UTF-8 is a parse error", async (t) => {
  const { url } = await gated(t, { policy });
  const deep = `{"jsonrpc":"2.0","id":1,"method":"ping","params":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
  for (const body of [deep, "", "\ufeff{}"]) {
    const response = await post(url, body);
    const { error } = (await response.json()) as { error: { code: number } };
    assert.deepEqual([response.status, error.code], [400, -32700]);
  }
});
