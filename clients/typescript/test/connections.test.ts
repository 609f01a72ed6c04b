import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { ServerCredentials } from "@grpc/grpc-js";
import { Client } from "../src/client.js";
import { InfoService } from "../src/gen/tenantauth/v1/info_pb.js";
import type { TlsOptions } from "../src/net/tls.js";
import type { ClientOptions } from "../src/options.js";
import { Fake } from "./support/fake.js";
import { failure } from "./support/setup.js";
import { until } from "./support/until.js";

const { getServerInfo } = InfoService.method;

async function fakes(t: TestContext, count: number): Promise<Fake[]> {
  const started = await Promise.all(Array.from({ length: count }, () => Fake.start()));
  for (const fake of started) {
    fake.answer(getServerInfo, () => ({ version: String(fake.port) }));
    t.after(() => fake.close());
  }
  return started;
}

function client(t: TestContext, endpoints: string[], options: ClientOptions = {}): Client {
  const made = new Client(endpoints, { timeoutMs: 10_000, nearCache: false, ...options });
  t.after(() => made.close());
  return made;
}

test("endpoints are used in turn", async (t) => {
  const three = await fakes(t, 3);
  const asking = client(
    t,
    three.map((fake) => fake.endpoint),
  );
  await until("all are connected", async () => {
    await asking.serverInfo();
    return three.every((fake) => fake.calls.length > 0);
  });
  const before = three.map((fake) => fake.calls.length);
  for (let call = 0; call < 30; call += 1) await asking.serverInfo();
  assert.deepEqual(
    three.map((fake, index) => fake.calls.length - (before[index] ?? 0)),
    [10, 10, 10],
  );
});

test("an unreachable endpoint is skipped and used again later", async (t) => {
  const [staying, leaving] = (await fakes(t, 2)) as [Fake, Fake];
  const asking = client(t, [staying.endpoint, leaving.endpoint]);
  const { port } = leaving;
  await until("both answer", async () => {
    await asking.serverInfo();
    return staying.calls.length > 0 && leaving.calls.length > 0;
  });
  leaving.close();
  for (let call = 0; call < 20; call += 1)
    assert.equal((await asking.serverInfo()).version, staying.endpoint.split(":")[1]);
  const back = await Fake.start(port);
  t.after(() => back.close());
  back.answer(getServerInfo, () => ({ version: "back" }));
  await until("it is used again", async () => (await asking.serverInfo()).version === "back");
});

test("a name is resolved", async (t) => {
  const [fake] = (await fakes(t, 1)) as [Fake];
  const asking = client(t, [`http://localhost:${fake.port}`]);
  assert.equal((await asking.serverInfo()).version, String(fake.port));
});

test("an unreachable service is unavailable", async (t) => {
  const [fake] = (await fakes(t, 1)) as [Fake];
  const asking = client(t, [fake.endpoint], { retryBudget: 0 });
  fake.close();
  assert.equal((await failure(asking.serverInfo())).kind, "unavailable");
});

const pem = (name: string): Promise<Buffer> => readFile(new URL(`../../test/tls/${name}`, import.meta.url));

test("TLS: private authority, server name and client certificate", async (t) => {
  const [ca, otherCa, serverKey, serverCert, key, certificate] = (await Promise.all(
    ["ca.pem", "other-ca.pem", "server.key", "server.pem", "client.key", "client.pem"].map(pem),
  )) as [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer];
  const pair = { private_key: serverKey, cert_chain: serverCert };
  const fake = await Fake.start(0, ServerCredentials.createSsl(ca, [pair], true));
  t.after(() => fake.close());
  fake.answer(getServerInfo, () => ({ version: "secure" }));
  const ask = (tls: TlsOptions): Promise<unknown> => {
    const asking = client(t, [`https://${fake.endpoint}`], { tls, retryBudget: 0, timeoutMs: 5000 });
    return asking.serverInfo().then(({ version }) => version);
  };
  const good = { ca, serverName: "tenant-auth.test", cert: certificate, key };
  assert.equal(await ask(good), "secure");
  const { serverName: _unnamed, ...byAddress } = good;
  const { cert: _none, key: _neither, ...anonymous } = good;
  for (const bad of [{ ...good, ca: otherCa }, byAddress, anonymous]) {
    assert.equal((await failure(ask(bad))).kind, "unavailable");
  }
  assert.equal(fake.calls.length, 1);
});

test("an environment proxy is not used by default", async (t) => {
  const [fake] = (await fakes(t, 1)) as [Fake];
  let connections = 0;
  const proxy = createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  await new Promise<void>((listening) => proxy.listen(0, "127.0.0.1", listening));
  t.after(() => proxy.close());
  const { port } = proxy.address() as AddressInfo;
  const names = ["grpc_proxy", "http_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"];
  const before = names.map((name) => [name, process.env[name]] as const);
  t.after(() => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  for (const name of names) {
    if (name.startsWith("no_")) delete process.env[name];
    else process.env[name] = `http://127.0.0.1:${port}`;
  }
  assert.equal((await client(t, [fake.endpoint]).serverInfo()).version, String(fake.port));
  assert.equal(connections, 0);
});
