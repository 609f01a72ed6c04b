import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import * as sdkErrors from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth as sdkRequireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import express from "express";
import { requireKey } from "../src/express.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { RequireKeyOptions } from "../src/http/admit.js";
import { clientAddressReader, type ProxyOptions } from "../src/http/client-address.js";
import { clientAddressFrom, KeyVerifier, mcpGate } from "../src/mcp.js";
import { listening, servers } from "./support/adapters.js";
import { keyAnswer } from "./support/answers.js";
import { raw } from "./support/raw-request.js";
import { clientOf, startService, temporaryFolder, withService } from "./support/service.js";
import { connected } from "./support/setup.js";

const { validateKey, validateSession } = ValidationService.method;

/** Reads the address of a request from this peer, with these lines of `X-Forwarded-For`. */
function read(options: ProxyOptions, remoteAddress: string | undefined, ...lines: string[]): unknown {
  const rawHeaders = ["Host", "a.test", ...lines.flatMap((line) => ["X-Forwarded-For", line])];
  const request = { method: "GET", url: "/", rawHeaders, socket: { remoteAddress } };
  return clientAddressReader(options)(request);
}

const behindProxies = { trustedProxies: ["10.0.0.0/8", "2001:db8:f::/48", "203.0.113.9"] };

test("client address: without proxies the header is ignored", () => {
  for (const peer of ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0"]) {
    assert.equal(read({}, peer), peer);
    assert.equal(read({}, peer, "198.51.100.7"), peer);
    assert.equal(read(behindProxies, peer, "198.51.100.7", "10.0.0.1"), peer);
    assert.equal(read({ trustedProxies: [] }, peer, "not an address"), peer);
  }
});

test("client address: a peer without an IP address has none", () => {
  for (const peer of [undefined, "", "/run/api.sock"]) {
    assert.equal(read({}, peer), undefined);
    assert.equal(read(behindProxies, peer, "198.51.100.7"), undefined);
    assert.equal(read({ trustedProxies: ["0.0.0.0/0", "::/0"] }, peer, "198.51.100.7"), undefined);
  }
});

test("client address: the last one that is not a proxy's counts", () => {
  for (const [peer, lines, expected] of [
    ["10.0.0.1", ["192.0.2.1"], "192.0.2.1"],
    ["::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"],
    ["203.0.113.9", ["192.0.2.1"], "192.0.2.1"],
    ["2001:db8:f::1", ["2001:db8::7"], "2001:db8::7"],
    // Forged entries come first.
    ["10.0.0.1", ["198.51.100.7, 192.0.2.1"], "192.0.2.1"],
    ["10.0.0.1", ["10.0.0.7, 198.51.100.7, 192.0.2.1"], "192.0.2.1"],
    ["10.0.0.1", ["not an address, 192.0.2.1"], "192.0.2.1"],
    ["10.0.0.1", [",,192.0.2.1"], "192.0.2.1"],
    // Chains of proxies.
    ["10.0.0.1", ["198.51.100.7, 192.0.2.1, 10.0.0.2"], "192.0.2.1"],
    ["10.0.0.1", ["192.0.2.1,2001:db8:f::2,203.0.113.9,::ffff:10.0.0.3"], "192.0.2.1"],
    ["10.0.0.1", ["192.0.2.1, 203.0.113.8, 10.0.0.2"], "203.0.113.8"],
    ["10.0.0.1", ["10.0.0.4, 10.0.0.3, 10.0.0.2"], "10.0.0.4"],
    ["10.0.0.1", ["10.0.0.4"], "10.0.0.4"],
    // Ports, brackets, zones and white space around entries.
    ["10.0.0.1", ["192.0.2.1:5000"], "192.0.2.1:5000"],
    ["10.0.0.1", [" 192.0.2.1 \t, 10.0.0.2:443 "], "192.0.2.1"],
    ["10.0.0.1", ["[2001:db8::7]:5000, [2001:db8:f::2]:443"], "[2001:db8::7]:5000"],
    ["10.0.0.1", ["[2001:db8::7]"], "[2001:db8::7]"],
    ["10.0.0.1", ["fe80::1%eth0"], "fe80::1%eth0"],
    // Several lines count as one list.
    ["10.0.0.1", ["198.51.100.7", "192.0.2.1"], "192.0.2.1"],
    ["10.0.0.1", ["198.51.100.7, 192.0.2.1", "10.0.0.3, 10.0.0.2"], "192.0.2.1"],
    ["10.0.0.1", ["10.0.0.4", "10.0.0.3", "10.0.0.2"], "10.0.0.4"],
  ] as const) {
    assert.equal(read(behindProxies, peer, ...lines), expected, `${peer}: ${lines.join(" | ")}`);
  }
});

test("client address: an invalid entry on the way means none", () => {
  for (const lines of [
    [],
    [""],
    [" "],
    ["not an address"],
    ["unknown"],
    ["192.0.2.1, unknown"],
    ["192.0.2.1, unknown, 10.0.0.2"],
    ["192.0.2.1,"],
    ["192.0.2.1,,10.0.0.2"],
    ["192.0.2.1", ""],
    ["192.0.2.1", "unknown", "10.0.0.2"],
    ["192.0.2.1;10.0.0.2"],
    ["192.0.2.1 10.0.0.2"],
    ["192.0.2.1:99999"],
    ['for="192.0.2.1"'],
    ["192.0.2.0/24"],
    ["[2001:db8::7"],
  ]) {
    assert.equal(read(behindProxies, "10.0.0.1", ...lines), undefined, lines.join(" | "));
  }
});

test("client address: another header replaces X-Forwarded-For", () => {
  const options = { trustedProxies: ["10.0.0.1"], clientAddressHeader: "CF-Connecting-IP" };
  const reader = clientAddressReader(options);
  const of = (...rawHeaders: string[]): string | undefined =>
    reader({ method: "GET", url: "/", rawHeaders, socket: { remoteAddress: "10.0.0.1" } });
  const forged = ["X-Forwarded-For", "198.51.100.7"];
  assert.equal(of("cf-connecting-ip", "192.0.2.1", ...forged), "192.0.2.1");
  assert.equal(of(...forged), undefined);
});

const key = ["authorization", "Bearer ta_key"];

for (const [name, server] of servers) {
  test(`${name}: the client's address is sent and set on the request`, async (t) => {
    const { fake, client } = await connected(t, { nearCache: false });
    fake.answer(validateKey, () => keyAnswer());
    const ask = async (options: RequireKeyOptions, ...headers: string[]): Promise<unknown[]> => {
      const url = await server(t, client, options);
      const { status, headers: shown } = await raw(url, [...key, ...headers]);
      return [status, fake.callsOf(validateKey).at(-1)?.request.clientAddress, shown["client-address"]];
    };
    const forged = ["X-Forwarded-For", "198.51.100.7", "x-forwarded-for", "192.0.2.1, 10.0.0.2"];
    assert.deepEqual(await ask({}, ...forged), [200, "127.0.0.1", "127.0.0.1"]);
    const trustedProxies = ["127.0.0.0/8", "10.0.0.0/8"];
    assert.deepEqual(await ask({ trustedProxies }, ...forged), [200, "192.0.2.1", "192.0.2.1"]);
    assert.deepEqual(await ask({ trustedProxies }), [200, "", undefined]);
    const options = { trustedProxies, clientAddressHeader: "X-Real-IP" };
    assert.deepEqual(await ask(options, "x-real-ip", "2001:db8::7"), [200, "2001:db8::7", "2001:db8::7"]);
  });

  test(`${name}: a key is admitted from its networks only`, async (t) => {
    const { fake, client } = await connected(t, { nearCache: { watch: false } });
    fake.answer(validateKey, () => keyAnswer({ allowedNetworks: ["192.0.2.0/24"] }));
    const url = await server(t, client, { trustedProxies: ["127.0.0.1"] });
    const ask = async (...headers: string[]): Promise<unknown[]> => {
      const { status, body } = await raw(url, [...key, ...headers]);
      return [status, body.code];
    };
    assert.deepEqual(await ask("x-forwarded-for", "192.0.2.7"), [200, undefined]);
    assert.deepEqual(await ask("x-forwarded-for", "192.0.2.7, 192.0.3.7"), [403, "ADDRESS_NOT_ALLOWED"]);
    assert.deepEqual(await ask("x-forwarded-for", "192.0.2.7, unknown"), [403, "ADDRESS_REQUIRED"]);
    assert.deepEqual(await ask(), [403, "ADDRESS_REQUIRED"]);
    assert.equal(fake.calls.length, 1);
  });

  test(`${name}: the real service limits a key to its networks`, withService, async (t) => {
    const { endpoint } = await startService(t);
    const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
    const limited = { tenantId: "ten_demo", name: "office", scopes: [], allowedNetworks: ["192.0.2.0/24"] };
    const { plaintext } = await client.raw.admin.issueKey(limited);
    const url = await server(t, client, { trustedProxies: ["127.0.0.1"] });
    const ask = async (address: string): Promise<unknown[]> => {
      const headers = ["authorization", `Bearer ${plaintext}`, "x-forwarded-for", address];
      const { status, body } = await raw(url, headers);
      return [status, body.code];
    };
    assert.deepEqual(await ask("192.0.2.7:5000"), [200, undefined]);
    assert.deepEqual(await ask("192.0.3.7"), [403, "ADDRESS_NOT_ALLOWED"]);
    assert.deepEqual(await ask("unknown"), [403, "ADDRESS_REQUIRED"]);
  });
}

test("client address: Express's own trust of proxies has no effect", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, () => keyAnswer());
  const app = express().set("trust proxy", true);
  app.use(requireKey(client), (request, response) => {
    response.json(request.ip);
  });
  const { body } = await raw(await listening(t, app), [...key, "x-forwarded-for", "198.51.100.7"]);
  assert.equal(body, "198.51.100.7");
  assert.equal(fake.callsOf(validateKey)[0]?.request.clientAddress, "127.0.0.1");
});

test("client address: a request on a Unix socket has none", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.ADDRESS_REQUIRED }));
  const socketPath = join(await temporaryFolder(t), "api.sock");
  const app = express().use(requireKey(client, { trustedProxies: ["0.0.0.0/0", "::/0"] }));
  const server = app.listen(socketPath);
  t.after(() => server.close());
  const headers = { authorization: "Bearer ta_key", "x-forwarded-for": "192.0.2.7" };
  const status = await new Promise((resolve, reject) => {
    const asked = httpRequest({ socketPath, headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.once("error", reject);
    server.once("listening", () => asked.end());
  });
  assert.equal(status, 403);
  assert.equal(fake.callsOf(validateKey)[0]?.request.clientAddress, "");
});

test("mcp: the client's address applies to the key and the session", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(validateSession, () => keyAnswer());
  const app = express();
  const options = { trustedProxies: ["127.0.0.1"], clientAddressHeader: "cf-connecting-ip" };
  app.get("/", mcpGate(client, options), (request, response) => {
    response.json(clientAddressFrom(request.auth) ?? "none");
  });
  const url = await listening(t, app);
  const session = [...key, "mcp-session-id", "s"];
  assert.equal((await raw(url, [...session, "cf-connecting-ip", "192.0.2.7"])).body, "192.0.2.7");
  assert.equal((await raw(url, session)).body, "none");
  const sent = fake.calls.map(({ request }) => (request as { clientAddress?: string }).clientAddress);
  assert.deepEqual(sent, ["192.0.2.7", "192.0.2.7", "", ""]);
});

test("mcp: the SDK's middleware admits no key with networks", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, ({ clientAddress }) =>
    keyAnswer({ verdict: clientAddress === "" ? Verdict.ADDRESS_REQUIRED : Verdict.VALID }),
  );
  const app = express().use(sdkRequireBearerAuth({ verifier: new KeyVerifier(client, sdkErrors) }));
  assert.equal((await raw(await listening(t, app), key)).status, 400);
});
