import assert from "node:assert/strict";
import dns from "node:dns/promises";
import { type TestContext, test } from "node:test";
import type { Client } from "../src/client.js";
import type { ClientOptions } from "../src/options.js";
import {
  callersFile,
  certificate,
  clientOf,
  type Service,
  SHARED_KEY,
  shareKey,
  startReplicas,
  startService,
  temporaryFolder,
  withService,
} from "./support/service.js";
import { failure } from "./support/setup.js";
import { until } from "./support/until.js";

const plain: ClientOptions = { nearCache: false };
/** The default timeout is longer, for busy machines. A hung connection would take thirty seconds. */
const patient: ClientOptions = { ...plain, timeoutMs: 8000, hedgeAfterMs: 250 };

/** Two replicas, and a client that is connected to both. */
async function pair(t: TestContext, options: ClientOptions = patient): Promise<[Service, Service, Client]> {
  const [one, two] = (await startReplicas(t, 2)) as [Service, Service];
  const client = clientOf(t, `${one.endpoint},${two.endpoint}`, options);
  await until("both answer", async () => (await answering(client)).size === 2);
  return [one, two, client];
}

/** Returns which replicas respond. Each issues its own key id for its demo key. */
async function answering(client: Client): Promise<Set<string>> {
  const seen = new Set<string>();
  for (let call = 0; call < 4; call += 1) seen.add((await client.validateKey(SHARED_KEY)).keyId);
  return seen;
}

test("replicas: one of two hangs and no call fails", withService, async (t) => {
  const [one, , client] = await pair(t);
  one.program.hang();
  for (let call = 0; call < 20; call += 1) assert.ok((await client.validateKey(SHARED_KEY)).valid);
  // The hung replica was detected, and gets no more calls.
  assert.equal((await answering(client)).size, 1);
  one.program.resume();
  await until("it is used again", async () => (await answering(client)).size === 2);
});

test("replicas: more calls hang than may be retried, and none fails", withService, async (t) => {
  const [one, , client] = await pair(t);
  one.program.hang();
  const calls = Array.from({ length: 200 }, () => client.validateKeys([SHARED_KEY]));
  for (const [outcome] of await Promise.all(calls)) assert.ok(outcome && !(outcome instanceof Error));
});

test("replicas: a write is not hedged but reaches the other replica", withService, async (t) => {
  const [one, , client] = await pair(t);
  one.program.hang();
  const events = [{ tenantId: "ten_demo", metric: "api.calls", quantity: 1 }];
  for (let call = 0; call < 2; call += 1) {
    assert.equal((await client.usage.record(events)).accepted, 1);
  }
});

test("replicas: one is killed and replaced and no call fails", withService, async (t) => {
  const [one, two, client] = await pair(t);
  const { endpoint } = one;
  let stop = false;
  // The replacement has a database of its own, and may be asked before it has the key.
  let isShared = true;
  const calls = (async () => {
    while (!stop) {
      const wasShared = isShared;
      const { valid } = await client.validateKey(SHARED_KEY);
      assert.ok(valid || !wasShared || !isShared);
    }
  })();
  one.program.kill();
  await one.program.ended;
  isShared = false;
  await startService(t, { listen: endpoint });
  await shareKey(endpoint);
  isShared = true;
  await until("it is used", async () => (await answering(client)).size === 2);
  two.program.stop();
  await two.program.ended;
  stop = true;
  await calls;
  assert.equal((await answering(client)).size, 1);
});

test("replicas: a name that appears late is used", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const port = endpoint.split(":")[1];
  let exists = false;
  let asked = 0;
  t.mock.method(dns, "lookup", async (host: string) => {
    asked += 1;
    if (host === "late.test" && !exists) throw new Error("getaddrinfo ENOTFOUND late.test");
    return [{ address: host === "late.test" ? "127.0.0.1" : "192.0.2.1", family: 4 }];
  });
  const client = clientOf(t, [`dns:///late.test:${port}`], { ...plain, retryBudget: 0 });
  const error = await failure(client.validateKey(key));
  assert.match(error.message, /UNAVAILABLE: the service is unreachable: late\.test: getaddrinfo ENOTFOUND/);
  exists = true;
  await until("it is used", () =>
    client.validateKey(key).then(
      ({ valid }) => valid,
      () => false,
    ),
  );
  assert.ok(asked >= 2);
});

test("replicas: IPv6 by address and by name", withService, async (t) => {
  const { endpoint, key } = await startService(t, { listen: "[::1]:0" });
  assert.match(endpoint, /^\[::1\]:\d+$/);
  for (const form of [endpoint, `http://${endpoint}`, `dns:///${endpoint}`]) {
    assert.ok((await clientOf(t, form, { ...plain, timeoutMs: 10_000 }).validateKey(key)).valid, form);
  }
});

test("replicas: TLS with several addresses, each verified by its name", withService, async (t) => {
  const environment = {
    TENANT_AUTH_TLS_CERT_FILE: certificate("server.pem"),
    TENANT_AUTH_TLS_KEY_FILE: certificate("server.key"),
    TENANT_AUTH_TLS_CLIENT_CA_FILE: certificate("ca.pem"),
    TENANT_AUTH_CALLERS_FILE: await callersFile(await temporaryFolder(t)),
  };
  const one = await startService(t, { environment });
  const two = await startService(t, { environment });
  const endpoints = [one, two].map(({ endpoint }) => `https://${endpoint}`);
  const files = {
    caFile: certificate("ca.pem"),
    certFile: certificate("client.pem"),
    keyFile: certificate("client.key"),
  };
  const tls = { ...files, serverName: "tenant-auth.test" };
  const client = clientOf(t, endpoints, { ...plain, tls, timeoutMs: 10_000 });
  for (let call = 0; call < 4; call += 1) assert.match((await client.serverInfo()).version, /^\d/);
  const { serverName: _, ...byAddress } = tls;
  const wrong = clientOf(t, endpoints, { ...plain, tls: byAddress, retryBudget: 0, timeoutMs: 10_000 });
  assert.match((await failure(wrong.serverInfo())).message, /TLS handshake failed: .*does not match/);
  const plaintext = clientOf(t, (await startService(t)).endpoint, { ...plain, tls, retryBudget: 0 });
  assert.match((await failure(plaintext.serverInfo())).message, /the port expects plaintext/);
});
