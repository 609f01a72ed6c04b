import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Client } from "../src/client.js";
import { Tls, type TlsOptions } from "../src/net/tls.js";
import type { ClientOptions } from "../src/options.js";
import {
  callersFile,
  certificate,
  clientOf,
  startService,
  temporaryFolder,
  withService,
} from "./support/service.js";
import { failure } from "./support/setup.js";

const PEM = Object.fromEntries(
  await Promise.all(
    ["ca.pem", "other-ca.pem", "client.pem", "client.key", "server.key"].map(
      async (name) => [name, await readFile(certificate(name), "utf8")] as const,
    ),
  ),
) as Record<string, string>;

async function folder(t: TestContext): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "tenant-auth-options-"));
  t.after(() => rm(made, { recursive: true }));
  return made;
}

function rejected(endpoints: unknown, options: object, message: RegExp): void {
  // A client that is not rejected would keep the test process alive.
  assert.throws(() => new Client(endpoints as string, options).close(), message);
}

test("endpoints: each form is accepted", () => {
  const forms = [
    "host:1",
    "1.2.3.4:1",
    "[::1]:1",
    "dns:///host:1",
    "http://host:1",
    "a_b.c-d.:65535",
    "a:1,b:2",
  ];
  for (const form of [...forms, forms.slice(0, 3)]) new Client(form).close();
  for (const form of ["https://host:443", ["https://[::1]:1", "https://b:2"]]) new Client(form).close();
  new Client(["https://a:1", "b:2"], { tls: true }).close();
});

test("endpoints: other forms are rejected with the value and the fix", () => {
  const forms = /must be host:port, dns:\/\/\/host:port, http:\/\/host:port or https:\/\/host:port/;
  const wrong = [
    "ftp://host:1",
    "grpc://host:1",
    "host:port",
    "http://",
    "a b:1",
    " a:1",
    "host:1/path",
    "u@host:1",
    ":1",
  ];
  for (const endpoint of [
    ...wrong,
    "",
    "a:1,",
    "a:1, b:1",
    "1.2.3:1",
    "a..b:1",
    "1.2.3.999:1",
    "[::1",
    "[host]:1",
    "host:1?x",
    "é:1",
  ]) {
    rejected(endpoint, {}, forms);
  }
  for (const none of [[], undefined, null, {}, [7]]) rejected(none, {}, /endpoints must be/);
  rejected("::1:50051", {}, /endpoint "::1:50051" needs brackets around its IPv6 address: \[::1\]:50051/);
  for (const portless of ["host", "[::1]", "https://host"])
    rejected(portless, {}, /has no port: use \S+:port/);
  for (const port of [0, 65_536, 99_999])
    rejected(`host:${port}`, {}, /has a port that is not from 1 to 65535/);
  rejected("http://host:1", { tls: true }, /is plaintext, but tls is set: use https:/);
  rejected(["http://a:1", "https://b:2"], {}, /a:1 is plaintext and b:2 is TLS/);
  rejected("a:1,https://b:2", { callerToken: "t" }, /a:1 is plaintext and b:2 is TLS/);
});

test("options: invalid values are rejected by name", () => {
  const numbers = [0, -1, Number.NaN, Infinity, 1e12, 86_400_001, "1", null, {}, 10n];
  for (const name of ["timeoutMs", "hedgeAfterMs", "keepaliveIntervalMs", "keepaliveTimeoutMs"]) {
    for (const value of numbers) rejected("a:1", { [name]: value }, new RegExp(`^TypeError: ${name} must`));
  }
  for (const value of [0, -1, 0.5, Number.NaN, Infinity, 10_000_001, "1"]) {
    rejected(
      "a:1",
      { nearCache: { capacity: value } },
      /nearCache\.capacity must be a whole number from 1 to 10000000/,
    );
  }
  rejected("a:1", { nearCache: { watchedForMs: 0 } }, /nearCache\.watchedForMs must be more than 0/);
  rejected("a:1", { nearCache: { watch: "no" } }, /nearCache\.watch must be true or false, not "no"/);
  for (const value of [2, -0.1, Number.NaN, "0.1"])
    rejected("a:1", { retryBudget: value }, /retryBudget must be between/);
  for (const value of ["", "a\nb", "a\r", "é", " ", "x".repeat(257), 7]) {
    rejected("a:1", { userAgent: value }, /userAgent must be 1 to 256 printable ASCII/);
  }
  for (const options of [7, "x", null, [], new Map()])
    rejected("a:1", options as object, /options must be an object/);
  rejected("a:1", { timeout: 1 }, /options: unknown option "timeout"; known options: timeoutMs/);
  rejected("a:1", { useEnvironmentProxy: 1 }, /useEnvironmentProxy must be true or false/);
  rejected("a:1", { clock: {} }, /clock must have a function now/);
  for (const tls of ["yes", null, []]) rejected("a:1", { tls }, /tls must be true, false or an object/);
  rejected("a:1", { nearCache: null }, /nearCache must be an object/);
  rejected("a:1", { retryBudget: null }, /retryBudget must be between/);
});

test("options: invalid call options are rejected", async (t) => {
  const client = clientOf(t, "127.0.0.1:1", { retryBudget: 0 });
  for (const timeoutMs of [0, -1, Number.NaN, Infinity, "1"] as number[]) {
    await assert.rejects(client.validateKey("k", { timeoutMs }), /timeoutMs must be more than 0/);
  }
  for (const scopes of ["orders:read", [1], {}] as unknown as string[][]) {
    await assert.rejects(
      client.validateKey("k", { scopes }),
      /scopes must be a list of texts, such as \["orders:read"\]/,
    );
    await assert.rejects(client.validateKeys([{ key: "k", scopes }]), /scopes must be a list of texts/);
    await assert.rejects(client.validateSession("s", { scopes }), /scopes must be a list of texts/);
  }
  // With misplaced or misspelt scopes, no scope would be required.
  for (const options of [["admin"], "admin", null, { scope: ["admin"] }, { requiredScopes: [] }]) {
    const given = options as { scopes?: string[] };
    const message = /options( must be an object|: unknown option "(scope|requiredScopes)")/;
    await assert.rejects(client.validateKey("k", given), message);
    await assert.rejects(client.requireKey("k", given), message);
    await assert.rejects(client.validateSession("s", given), message);
    await assert.rejects(client.validateKeys(["k"], given as object), message);
  }
  const misplaced = { scopes: ["admin"] };
  await assert.rejects(client.validateKeys(["k"], misplaced as object), /options: unknown option "scopes"/);
  const misnamed = { key: "k", scope: ["admin"] };
  await assert.rejects(client.validateKeys(["k", misnamed]), /keys\[1\]: unknown option "scope"/);
  const session = { sessionId: "s", key: "k", ttlMs: 60_000 };
  for (const [more, message] of [
    [{ expiry: "sliding" }, /options: unknown option "expiry"/],
    [{ sliding: "no" }, /sliding must be true or false/],
    [{ attributes: { a: 5 } }, /attributes\.a must be a string/],
    [{ attributes: { a: "\ud800" } }, /attributes\.a must be well-formed Unicode/],
    [{ attributes: "ab" }, /attributes must be an object/],
  ] as [object, RegExp][]) {
    await assert.rejects(client.sessions.bind({ ...session, ...more }), message);
  }
  const sums = { tenantId: "t", start: new Date(0), end: new Date() };
  for (const [more, message] of [
    [{ bucket: "YEAR" }, /bucket must be "HOUR", "DAY" or "MONTH"/],
    [{ bucket: "toString" }, /bucket must be/],
    [{ metric: 5 }, /metric must be a string/],
    [{ metrics: "a" }, /options: unknown option "metrics"/],
  ] as [object, RegExp][]) {
    assert.throws(() => client.usage.query({ ...sums, ...more }), message);
  }
  for (const requestId of [7, {}, null] as unknown as string[]) {
    await assert.rejects(client.usage.record([], { requestId }), /requestId must be a string/);
  }
  for (const call of [
    client.validateKey("\ud800"),
    client.validateSession("\ud800"),
    client.sessions.unbind("s", "\ud800"),
  ]) {
    await assert.rejects(call, /must be well-formed Unicode/);
  }
  await assert.rejects(client.validateKeys("k" as unknown as string[]), /keys must be a list/);
  const many = await failure(client.validateKeys(Array.from({ length: 1001 }, () => "k")));
  assert.deepEqual([many.kind, many.violations[0]?.field], ["invalid", "requests"]);
  assert.match(many.message, /requests: must have at most 1000 entries/);
});

test("tls: invalid certificates and keys are rejected without showing a key", async (t) => {
  const made = await folder(t);
  const empty = join(made, "empty.pem");
  await writeFile(empty, "");
  const pair = { cert: PEM["client.pem"], key: PEM["client.key"] };
  const wrong: [object, RegExp][] = [
    [{ ca: "/etc/ssl/ca.pem" }, /tls\.ca contains no PEM; to give a file, set tls\.caFile/],
    [{ ca: 7 }, /tls\.ca must be PEM, as text or bytes/],
    [{ caFile: "/etc/passwd" }, /tls\.ca contains no PEM certificate \(\/etc\/passwd\)/],
    [{ caFile: "/does/not/exist" }, /tls\.caFile cannot be read: ENOENT/],
    [{ caFile: empty }, /tls\.ca contains no PEM certificate/],
    [{ caFile: 7 }, /tls\.caFile must be the path of a file/],
    [{ ca: PEM["ca.pem"], caFile: empty }, /set either tls\.ca or tls\.caFile/],
    [
      { ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" },
      /tls\.ca contains an unreadable certificate/,
    ],
    [{ cert: pair.cert }, /tls\.cert and tls\.key must be set together/],
    [{ ...pair, key: PEM["server.key"] }, /tls\.key does not belong to tls\.cert/],
    [{ ...pair, key: PEM["client.pem"] }, /tls\.key contains no PEM private key/],
    [{ ...pair, cert: PEM["client.key"] }, /tls\.cert contains no PEM certificate/],
    [{ serverName: "a\nb" }, /tls\.serverName must be a host name/],
    [{ rootCertificates: "x" }, /tls: unknown option rootCertificates/],
  ];
  for (const [tls, message] of wrong) {
    rejected("a:1", { tls }, message);
    try {
      new Tls(tls as TlsOptions);
    } catch (error) {
      assert.doesNotMatch(String(error), /PRIVATE KEY-----/);
    }
  }
  new Tls({ ca: Buffer.from(PEM["ca.pem"] ?? ""), ...pair } as TlsOptions);
});

test("tls: files are read again per connection, and the last valid ones stay in use", async (t) => {
  const made = await folder(t);
  const caFile = join(made, "ca.pem");
  await writeFile(caFile, PEM["ca.pem"] ?? "");
  const tls = new Tls({ caFile });
  await writeFile(caFile, PEM["other-ca.pem"] ?? "");
  assert.equal(tls.material().ca, PEM["other-ca.pem"]);
  await writeFile(caFile, "half a fi");
  const warned = t.mock.method(process, "emitWarning", () => undefined);
  assert.equal(tls.material().ca, PEM["other-ca.pem"]);
  assert.match(
    String(warned.mock.calls[0]?.arguments[0]),
    /the last valid ones stay in use: tls\.ca contains no PEM/,
  );
});

test("caller tokens: invalid tokens are rejected and not shown", async (t) => {
  const made = await folder(t);
  const file = join(made, "token");
  await writeFile(file, "two\nlines\n");
  const wrong: unknown[] = [
    "",
    " ",
    "sec ret",
    "sec\nret",
    "sécret",
    "x".repeat(4097),
    7,
    {},
    { file: "" },
    { file },
    null,
  ];
  for (const callerToken of wrong) {
    assert.throws(
      () => new Client("a:1", { callerToken } as ClientOptions).close(),
      (error) =>
        error instanceof TypeError && /callerToken/.test(error.message) && !/sec|lines/.test(error.message),
    );
  }
  rejected("a:1", { callerToken: { file: "/does/not/exist" } }, /callerToken\.file cannot be read: ENOENT/);
});

test("caller tokens: text, file and function, trimmed and rotated", withService, async (t) => {
  const home = await temporaryFolder(t);
  const callers = await callersFile(home, ["first", "second"]);
  const { endpoint, key } = await startService(t, { environment: { TENANT_AUTH_CALLERS_FILE: callers } });
  const file = join(home, "token");
  await writeFile(file, "\ufefffirst \r\n");
  let given: unknown = "\tsecond\n";
  const tokens: ClientOptions["callerToken"][] = [
    "first\n",
    { file },
    () => given as string,
    async () => "second",
  ];
  const options = { nearCache: false, timeoutMs: 10_000 };
  for (const callerToken of tokens as NonNullable<ClientOptions["callerToken"]>[]) {
    assert.ok((await clientOf(t, endpoint, { ...options, callerToken }).validateKey(key)).valid);
  }
  const warned = t.mock.method(process, "emitWarning", () => undefined);
  const asking = clientOf(t, endpoint, { ...options, callerToken: () => given as string });
  assert.ok((await asking.validateKey(key)).valid);
  // The last valid token stays in use.
  for (const junk of ["", "two words", undefined, 7]) {
    given = junk;
    assert.ok((await asking.validateKey(key)).valid);
  }
  assert.match(
    String(warned.mock.calls[0]?.arguments[0]),
    /the last valid one stays in use: function callerToken/,
  );
  const throwing = (): never => {
    throw new Error("secret");
  };
  const without = await failure(
    clientOf(t, endpoint, { ...options, callerToken: throwing }).validateKey(key),
  );
  assert.equal(without.kind, "unauthenticated");
  assert.doesNotMatch(`${without.stack}`, /secret/);
  const unknown = clientOf(t, endpoint, { ...options, callerToken: "unknown" });
  assert.equal((await failure(unknown.validateKey(key))).kind, "unauthenticated");
});
