import assert from "node:assert/strict";
import { test } from "node:test";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { InfoService, DatabaseKind as WireKind } from "../src/gen/tenantauth/v1/info_pb.js";
import { SessionExpiry, SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { UsageService, UsageBucket as WireBucket } from "../src/gen/tenantauth/v1/usage_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { unavailable } from "./support/answers.js";
import { connected } from "./support/setup.js";
import { until } from "./support/until.js";

const { bindSession, unbindSession, listSessions } = SessionService.method;
const { recordUsage, queryUsage } = UsageService.method;
const plain = { nearCache: false };

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const got: T[] = [];
  for await (const item of items) got.push(item);
  return got;
}

test("a session is bound with its lifetime and attributes", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(bindSession, ({ sessionId, attributes }) => ({
    verdict: Verdict.VALID,
    alreadyBound: true,
    session: { sessionId, tenantId: "ten_1", keyId: "key_1", attributes, expiresAt: timestampFromMs(5000) },
  }));
  const attributes = { client: "claude" };
  const binding = await client.sessions.bind({
    sessionId: "s",
    key: "k",
    ttlMs: 1500,
    sliding: true,
    attributes,
  });
  assert.equal(binding.verdict, "VALID");
  assert.equal(binding.alreadyBound, true);
  assert.equal(binding.session?.expiresAt?.getTime(), 5000);
  assert.deepEqual(binding.session?.attributes, attributes);
  const [sent] = fake.callsOf(bindSession);
  assert.deepEqual([sent?.request.ttl?.seconds, sent?.request.ttl?.nanos], [1n, 500_000_000]);
  assert.equal(sent?.request.expiry, SessionExpiry.SLIDING);
  fake.answer(bindSession, () => ({ verdict: Verdict.TENANT_MISMATCH }));
  const rejected = await client.sessions.bind({ sessionId: "s", key: "k", ttlMs: 1 });
  assert.deepEqual([rejected.verdict, rejected.session], ["TENANT_MISMATCH", undefined]);
  await assert.rejects(
    client.sessions.bind({ sessionId: "s", key: "k", ttlMs: -1 }),
    /ttlMs must be a number/,
  );
});

test("a session is unbound once", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(unbindSession, () => ({ wasBound: fake.calls.length === 1 }));
  assert.equal(await client.sessions.unbind("s", "ten_1"), true);
  assert.equal(await client.sessions.unbind("s", "ten_1"), false);
});

test("sessions are loaded page by page", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(listSessions, ({ pageToken, pageSize }) => {
    const page = Number(pageToken || "0");
    const sessions = Array.from({ length: pageSize }, (_, n) => ({ sessionId: `s${page}${n}` }));
    return { sessions, nextPageToken: page < 2 ? String(page + 1) : "" };
  });
  for await (const { sessionId } of client.sessions.list("ten_1", { pageSize: 2 })) {
    if (sessionId === "s10") break;
  }
  assert.equal(fake.calls.length, 2);
  const ids = (await all(client.sessions.list("ten_1", { pageSize: 2 }))).map(({ sessionId }) => sessionId);
  assert.deepEqual(ids, ["s00", "s01", "s10", "s11", "s20", "s21"]);
});

test("usage keeps its request id across retries", async (t) => {
  const { fake, client, clock } = await connected(t, plain);
  fake.answer(recordUsage, ({ events }) => {
    if (fake.calls.length < 2) throw unavailable();
    const rejected = [{ index: 1, error: { code: status.NOT_FOUND, message: "no such tenant" } }];
    return { accepted: events.length - 1, rejected, alreadyRecorded: true };
  });
  const event = { tenantId: "ten_1", metric: "api.calls", quantity: 2n ** 60n, occurredAt: new Date(1000) };
  const recording = client.usage.record([event, { ...event, tenantId: "ten_2", quantity: 1 }]);
  await until("it was sent twice", () => {
    clock.advance(1);
    return fake.calls.length === 2;
  });
  const outcome = await recording;
  assert.deepEqual([outcome.accepted, outcome.alreadyRecorded], [1, true]);
  assert.deepEqual([outcome.rejected[0]?.index, outcome.rejected[0]?.error.code], [1, "NOT_FOUND"]);
  const [first, second] = fake.callsOf(recordUsage);
  assert.equal(first?.request.events[0]?.quantity, 2n ** 60n);
  assert.deepEqual(first?.request, second?.request);
  await assert.rejects(client.usage.record([{ ...event, quantity: 0.5 }]), /quantity must be a whole number/);
});

test("sums are loaded page by page", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(queryUsage, ({ pageToken }) => ({
    sums: [
      { metric: "api.calls", bucketStart: timestampFromMs(pageToken ? 3600_000 : 0), quantity: 2n ** 60n },
    ],
    nextPageToken: pageToken ? "" : "more",
  }));
  const asked = { tenantId: "ten_1", metric: "api.calls", start: new Date(0), end: new Date(7200_000) };
  const sums = await all(client.usage.query({ ...asked, bucket: "HOUR" }));
  assert.deepEqual(
    sums.map(({ bucketStart, quantity }) => [bucketStart.getTime(), quantity]),
    [
      [0, 2n ** 60n],
      [3600_000, 2n ** 60n],
    ],
  );
  const sent = fake.callsOf(queryUsage)[0]?.request;
  assert.equal(sent?.bucket, WireBucket.HOUR);
  assert.equal(sent?.endTime && timestampMs(sent.endTime), 7200_000);
  assert.throws(() => client.usage.query({ ...asked, end: new Date("no date") }), /end must be a valid Date/);
});

test("server info is converted", async (t) => {
  const { fake, client } = await connected(t, plain);
  fake.answer(InfoService.method.getServerInfo, () => ({
    version: "1.2.3",
    databaseKind: WireKind.REMOTE,
    revision: 12n,
    uptime: { seconds: 61n, nanos: 500_000_000 },
    now: timestampFromMs(1000),
    schemaVersion: 4,
  }));
  const info = await client.serverInfo();
  assert.deepEqual(
    [info.version, info.database, info.revision, info.uptimeMs],
    ["1.2.3", "REMOTE", 12n, 61_500],
  );
  assert.deepEqual([info.now?.getTime(), info.schemaVersion], [1000, 4]);
});
