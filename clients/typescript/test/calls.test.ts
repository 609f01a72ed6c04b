import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { AdminService } from "../src/gen/tenantauth/v1/admin_pb.js";
import { InfoService } from "../src/gen/tenantauth/v1/info_pb.js";
import { SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { invalid, keyAnswer, overloaded, unavailable } from "./support/answers.js";
import { Refused } from "./support/fake.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";

const { validateKey, batchValidateKeys } = ValidationService.method;
const { getServerInfo } = InfoService.method;
const plain = { nearCache: false };

test("an error has a kind, a reason, a retry delay and a request id", async (t) => {
  const { fake, client } = await connected(t, { ...plain, retryBudget: 0 });
  fake.answer(validateKey, () => {
    throw unavailable(1500);
  });
  const error = await failure(client.validateKey("k"));
  assert.equal(error.kind, "unavailable");
  assert.equal(error.code, "UNAVAILABLE");
  assert.equal(error.reason, "DATABASE_TIMED_OUT");
  assert.equal(error.retryAfterMs, 1500);
  assert.equal(error.transient, true);
  assert.deepEqual(fake.calls[0]?.metadata.get("x-request-id"), [error.requestId]);
});

test("an invalid request names its fields", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(validateKey, () => {
    throw invalid("key", "required_scopes[2]");
  });
  const error = await failure(client.validateKey("", { scopes: ["a", "b", ""] }));
  assert.equal(error.kind, "invalid");
  assert.equal(error.transient, false);
  const fields = error.violations.map(({ field }) => field);
  assert.deepEqual(fields, ["key", "required_scopes[2]"]);
  assert.equal(error.violations[0]?.description, "must not be empty");
});

const kinds = [
  [status.UNAUTHENTICATED, "unauthenticated", "UNAUTHENTICATED"],
  [status.PERMISSION_DENIED, "permission-denied", "PERMISSION_DENIED"],
  [status.RESOURCE_EXHAUSTED, "overloaded", "RESOURCE_EXHAUSTED"],
  [status.DEADLINE_EXCEEDED, "deadline", "DEADLINE_EXCEEDED"],
  [status.NOT_FOUND, "other", "NOT_FOUND"],
  [status.INTERNAL, "other", "INTERNAL"],
] as const;

for (const [wire, kind, code] of kinds) {
  test(`${code} has the kind ${kind} and is not retried`, async (t) => {
    const { fake, client } = await connected(t, plain);
    fake.answer(getServerInfo, () => {
      throw new Refused(wire, "no");
    });
    const error = await failure(client.serverInfo());
    assert.deepEqual([error.kind, error.code], [kind, code]);
    assert.equal(fake.calls.length, 1);
  });
}

test("unavailable is retried with the same request id", async (t) => {
  const { fake, client, clock } = await connected(t, plain);
  fake.answer(validateKey, () => {
    if (fake.calls.length < 3) throw unavailable();
    return keyAnswer();
  });
  const asked = client.validateKey("k");
  await until("it was asked three times", () => {
    clock.advance(1);
    return fake.calls.length === 3;
  });
  assert.equal((await asked).verdict, "VALID");
  assert.equal(new Set(fake.calls.map(({ metadata }) => String(metadata.get("x-request-id")))).size, 1);
});

test("the retry delay of the service is respected", async (t) => {
  const { fake, client, clock } = await connected(t, plain);
  fake.answer(validateKey, () => {
    if (fake.calls.length < 2) throw overloaded(200);
    return keyAnswer();
  });
  const asked = client.validateKey("k");
  await until("the client waits", () => clock.nextIn <= 250);
  assert.ok(clock.nextIn >= 200, `waits ${clock.nextIn} ms`);
  clock.advance(250);
  assert.equal((await asked).verdict, "VALID");
});

test("a retry delay beyond the deadline is not waited for", async (t) => {
  const { fake, client, clock } = await connected(t, { ...plain, timeoutMs: 1000 });
  fake.answer(validateKey, () => {
    throw unavailable(1000);
  });
  assert.equal((await failure(client.validateKey("k"))).kind, "unavailable");
  assert.equal(fake.calls.length, 1);
  assert.equal(clock.waiting, 0);
});

test("retries are a tenth of the calls", async (t) => {
  const { fake, client, clock } = await connected(t, plain);
  fake.answer(validateKey, () => {
    throw unavailable();
  });
  const calls = 100;
  for (let call = 0; call < calls; call += 1) {
    let over = false;
    const failed = failure(client.validateKey("k")).finally(() => {
      over = true;
    });
    await until("the call fails", () => {
      clock.advance(1);
      return over;
    });
    await failed;
  }
  // A full bucket of ten, and a tenth of the calls.
  assert.ok(fake.calls.length <= calls + 10 + calls / 10, `${fake.calls.length} attempts`);
  assert.ok(fake.calls.length >= calls + 10, `${fake.calls.length} attempts`);
});

test("a call ends at its deadline", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(validateKey, () => gate<never>().passed);
  const error = await failure(client.validateKey("k", { timeoutMs: 30 }));
  assert.equal(error.kind, "deadline");
  await assert.rejects(client.validateKey("k", { timeoutMs: 0 }), /timeoutMs must be more than 0/);
});

test("an abort fails a call with the caller's reason", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(validateKey, () => gate<never>().passed);
  const leaving = new AbortController();
  const asked = client.validateKey("k", { signal: leaving.signal });
  await until("the call is there", () => fake.calls.length === 1);
  leaving.abort(new Error("the customer hung up"));
  await assert.rejects(asked, /the customer hung up/);
  await assert.rejects(client.validateKey("k", { signal: leaving.signal }), /the customer hung up/);
});

test("a batch keeps its order and isolates failures", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(batchValidateKeys, ({ requests }) => ({
    results: requests.map(({ key }) =>
      key === "broken"
        ? { result: { case: "error" as const, value: { code: status.UNAVAILABLE, message: "no answer" } } }
        : { result: { case: "response" as const, value: keyAnswer({ keyId: `key_${key}` }) } },
    ),
  }));
  const outcomes = await client.validateKeys(["a", "broken", { key: "c", scopes: ["x"] }]);
  assert.deepEqual(
    outcomes.map((outcome) => (outcome instanceof Error ? outcome.kind : outcome.keyId)),
    ["key_a", "unavailable", "key_c"],
  );
  assert.deepEqual(fake.callsOf(batchValidateKeys)[0]?.request.requests[2]?.requiredScopes, ["x"]);
  fake.answer(batchValidateKeys, () => ({ results: [] }));
  assert.match((await failure(client.validateKeys(["a"]))).message, /the response has 0 results for 1 keys/);
});

test("an unknown verdict is a denial", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(validateKey, () => keyAnswer({ verdict: 99 as never }));
  const answer = await client.validateKey("k");
  assert.deepEqual([answer.verdict, answer.valid], ["UNRECOGNIZED", false]);
});

test("a caller token is sent, and its file is read again after a rejection", async (t) => {
  const file = join(tmpdir(), `caller-token-${process.pid}`);
  await writeFile(file, "first\n");
  const { fake, client, clock } = await connected(t, { ...plain, callerToken: { file } });
  const sent = (): unknown => fake.calls.at(-1)?.metadata.get("authorization")[0];
  fake.answer(getServerInfo, () => {
    if (sent() === "Bearer second") throw new Refused(status.UNAUTHENTICATED, "withdrawn");
    return {};
  });
  await client.serverInfo();
  assert.equal(sent(), "Bearer first");
  await writeFile(file, "second\n");
  await client.serverInfo();
  assert.equal(sent(), "Bearer first");
  clock.advance(10_001);
  assert.equal((await failure(client.serverInfo())).kind, "unauthenticated");
  assert.equal(sent(), "Bearer second");
  await writeFile(file, "third\n");
  await client.serverInfo();
  assert.equal(sent(), "Bearer third");
});

test("an invalid caller token is rejected without quoting it", async (t) => {
  const { fake, client } = await connected(t, { ...plain, callerToken: () => "secret\ntoken" });
  const error = await failure(client.serverInfo());
  assert.equal(error.kind, "unauthenticated");
  assert.doesNotMatch(`${error.stack}`, /secret/);
  assert.equal(fake.calls.length, 0);
});

test("a missing token ends at the deadline, and an unreadable one is not quoted", async (t) => {
  let token: () => Promise<string> = () => gate<never>().passed;
  const { fake, client, clock } = await connected(t, { ...plain, callerToken: () => token() });
  const late = failure(client.serverInfo({ timeoutMs: 50 }));
  await until("the client waits", () => clock.nextIn === 50);
  clock.advance(50);
  assert.equal((await late).kind, "deadline");
  token = () => Promise.reject(new TypeError("bad secret"));
  const unread = await failure(client.serverInfo());
  assert.equal(unread.kind, "unauthenticated");
  assert.doesNotMatch(`${unread.stack}`, /secret/);
  assert.equal(fake.calls.length, 0);
});

test("a closed client completes calls in flight and rejects new ones", async (t) => {
  const { fake, client } = await connected(t);
  const hold = gate();
  fake.answer(validateKey, async () => {
    await hold.passed;
    return keyAnswer();
  });
  const under = client.validateKey("k");
  await until("the call is there", () => fake.calls.length === 1);
  client.close();
  assert.match((await failure(client.validateKey("other"))).message, /the client is closed/);
  hold.open();
  assert.equal((await under).verdict, "VALID");
});

test("all RPCs of the contract are available and not retried", async (t) => {
  const { fake, client } = await connected(t, plain);
  const error = await failure(client.raw.admin.getTenant({ tenantId: "ten_1" }));
  assert.equal(error.code, "UNIMPLEMENTED");
  fake.answer(SessionService.method.bindSession, () => {
    throw unavailable();
  });
  assert.equal((await failure(client.raw.sessions.bindSession({ sessionId: "s" }))).kind, "unavailable");
  assert.equal(fake.calls.length, 1);
  fake.servesWatch = false;
  const watch = client.raw.watch.watch({})[Symbol.asyncIterator]();
  assert.equal((await failure(watch.next())).code, "UNIMPLEMENTED");
  assert.ok(AdminService.method.issueKey.localName in client.raw.admin);
});

test("a hanging token function does not stop the watch for good", async (t) => {
  let asked = 0;
  const callerToken = (): string | Promise<string> => {
    asked += 1;
    return asked === 1 ? new Promise(() => undefined) : "token";
  };
  const { fake, clock } = await connected(t, { callerToken });
  await until("the token is asked for", () => asked === 1);
  clock.advance(3000);
  await until("a watch is opened", () => {
    clock.advance(10);
    return fake.watches.length > 0;
  });
});
