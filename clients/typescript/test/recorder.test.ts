import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { status } from "@grpc/grpc-js";
import type { Client } from "../src/client.js";
import type { TenantAuthError } from "../src/error.js";
import { type RecordUsageRequest, UsageService } from "../src/gen/tenantauth/v1/usage_pb.js";
import { type RecorderOptions, UsageQueueFullError, type UsageRecorder } from "../src/recorder.js";
import type { UsageEvent } from "../src/usage.js";
import { invalid, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import type { ManualClock } from "./support/manual-clock.js";
import { Program } from "./support/process.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";

const { recordUsage } = UsageService.method;

interface Setup {
  readonly fake: Fake;
  readonly client: Client;
  readonly clock: ManualClock;
  readonly recorder: UsageRecorder;
  readonly sent: () => RecordUsageRequest[];
}

async function recording(t: TestContext, options: RecorderOptions = {}): Promise<Setup> {
  const { fake, client, clock } = await connected(t, { nearCache: false, retryBudget: 0 });
  fake.answer(recordUsage, ({ events }) => ({ accepted: events.length }));
  const recorder = client.usageRecorder(options);
  const sent = (): RecordUsageRequest[] => fake.callsOf(recordUsage).map(({ request }) => request);
  return { fake, client, clock, recorder, sent };
}

test("events are batched for at most one second", async (t) => {
  const { clock, recorder, sent } = await recording(t);
  recorder.record("ten_1", "api.calls", 1);
  clock.advance(600);
  recorder.record("ten_1", "api.calls", 2, new Date(5000));
  clock.advance(399);
  assert.equal(clock.nextIn, 1);
  clock.advance(1);
  await until("they are sent", () => recorder.queued === 0);
  const [batch] = sent();
  assert.equal(sent().length, 1);
  assert.deepEqual(
    batch?.events.map(({ quantity }) => quantity),
    [1n, 2n],
  );
  // An event keeps the time at which it was recorded, not the time at which it was sent.
  assert.equal(batch?.events[0]?.occurredAt?.seconds, BigInt(Date.UTC(2026, 0, 1) / 1000));
  assert.equal(batch?.events[1]?.occurredAt?.seconds, 5n);
});

test("a full batch is sent immediately with its own id", async (t) => {
  const { recorder, sent } = await recording(t);
  for (let event = 0; event < 1000; event += 1) recorder.record("ten_1", "api.calls", 1);
  await until("they are sent", () => recorder.queued === 0);
  assert.deepEqual(
    sent().map(({ events }) => events.length),
    [500, 500],
  );
  assert.equal(new Set(sent().map(({ requestId }) => requestId)).size, 2);
});

test("an unanswered batch is resent unchanged", async (t) => {
  const { fake, clock, recorder, sent } = await recording(t, { batchSize: 2 });
  fake.answer(recordUsage, ({ events }) => {
    if (fake.calls.length < 4) throw unavailable();
    return { accepted: events.length };
  });
  for (const quantity of [1, 2, 3]) recorder.record("ten_1", "api.calls", quantity);
  await until("they are sent", () => {
    clock.advance(10);
    return recorder.queued === 0;
  });
  const batches = sent();
  assert.deepEqual(
    batches.map(({ events }) => events.map(({ quantity }) => quantity)),
    [[1n, 2n], [1n, 2n], [1n, 2n], [1n, 2n], [3n]],
  );
  assert.equal(new Set(batches.map(({ requestId }) => requestId)).size, 2);
});

test("a full queue rejects events until there is capacity", async (t) => {
  const { fake, recorder } = await recording(t, { capacity: 2, batchSize: 2 });
  const hold = gate();
  fake.answer(recordUsage, async () => {
    await hold.passed;
    return { accepted: 2 };
  });
  for (const quantity of [1, 2]) recorder.record("ten_1", "api.calls", quantity);
  assert.throws(() => recorder.record("ten_1", "api.calls", 3), UsageQueueFullError);
  hold.open();
  await until("there is room", () => recorder.queued === 0);
  recorder.record("ten_1", "api.calls", 3);
  assert.equal(recorder.queued, 1);
});

test("flush sends immediately, and rejects without losing events", async (t) => {
  const { fake, recorder, sent } = await recording(t);
  recorder.record("ten_1", "api.calls", 1);
  fake.answer(recordUsage, () => {
    throw unavailable();
  });
  assert.equal((await failure(recorder.flush())).kind, "unavailable");
  assert.equal(recorder.queued, 1);
  fake.answer(recordUsage, () => ({ accepted: 1 }));
  await recorder.flush();
  assert.equal(recorder.queued, 0);
  assert.equal(new Set(sent().map(({ requestId }) => requestId)).size, 1);
  await recorder.flush();
  assert.equal(sent().length, 2);
});

test("close sends queued events and rejects new ones", async (t) => {
  const { recorder, clock, sent } = await recording(t);
  recorder.record("ten_1", "api.calls", 1);
  assert.deepEqual(await recorder.close(), []);
  assert.equal(sent().length, 1);
  assert.throws(() => recorder.record("ten_1", "api.calls", 1), /the usage recorder is closed/);
  assert.equal(clock.waiting, 0);
});

test("close returns unsent events with their request ids", async (t) => {
  const { fake, clock, recorder, sent } = await recording(t, { batchSize: 1 });
  fake.answer(recordUsage, () => {
    throw unavailable();
  });
  for (const quantity of [1, 2]) recorder.record("ten_1", "api.calls", quantity);
  await until("one was sent", () => sent().length > 0);
  const closing = recorder.close(5000);
  clock.advance(5000);
  const unsent = await closing;
  assert.deepEqual(
    unsent.map(({ events }) => events.map(({ quantity }) => quantity)),
    [[1], [2]],
  );
  assert.equal(unsent[0]?.requestId, sent()[0]?.requestId);
  assert.equal(await recorder.close(), unsent);
  assert.equal(clock.waiting, 0);
});

test("close does not wait for a missing response", async (t) => {
  const { fake, clock, recorder, sent } = await recording(t, { batchSize: 1 });
  fake.answer(recordUsage, () => gate<never>().passed);
  recorder.record("ten_1", "api.calls", 1);
  await until("it was sent", () => sent().length === 1);
  const closing = recorder.close(1000);
  clock.advance(1000);
  assert.equal((await closing).length, 1);
});

test("rejected events are reported", async (t) => {
  const rejected: [UsageEvent, TenantAuthError][] = [];
  const onRejected = (event: UsageEvent, error: TenantAuthError): void => void rejected.push([event, error]);
  const { fake, recorder } = await recording(t, { onRejected });
  fake.answer(recordUsage, () => ({
    accepted: 1,
    rejected: [{ index: 1, error: { code: status.NOT_FOUND, message: "no such tenant" } }],
  }));
  recorder.record("ten_1", "api.calls", 1);
  recorder.record("ten_2", "api.calls", 1);
  await recorder.flush();
  assert.deepEqual(
    rejected.map(([event, error]) => [event.tenantId, error.code]),
    [["ten_2", "NOT_FOUND"]],
  );
  fake.answer(recordUsage, () => {
    throw invalid("events[0].metric");
  });
  recorder.record("ten_3", "api.calls", 1);
  await recorder.flush();
  assert.deepEqual([rejected[1]?.[0].tenantId, rejected[1]?.[1].kind], ["ten_3", "invalid"]);
  assert.equal(recorder.queued, 0);
});

test("a failing onRejected callback does not affect other events", async (t) => {
  const warned = t.mock.method(process, "emitWarning", () => undefined);
  let later = false;
  const { fake, recorder, sent } = await recording(t, {
    onRejected: () => {
      if (later) return Promise.reject(new RangeError("ta_key"));
      throw new RangeError("ta_key");
    },
  });
  fake.answer(recordUsage, () => ({
    rejected: [{ index: 0, error: { code: status.NOT_FOUND, message: "no such tenant" } }],
  }));
  recorder.record("ten_1", "api.calls", 1);
  await recorder.flush();
  later = true;
  fake.answer(recordUsage, () => {
    throw invalid("events[0].metric");
  });
  recorder.record("ten_1", "api.calls", 2);
  await recorder.flush();
  await until("both failures are reported", () => warned.mock.callCount() === 2);
  assert.equal(sent().length, 2, "each batch is sent once");
  assert.deepEqual(
    warned.mock.calls.map(({ arguments: [line] }) => String(line)),
    Array.from({ length: 2 }, () => "onRejected failed: RangeError"),
  );
});

test("unsent events can be stored as JSON", async (t) => {
  const { client, recorder } = await recording(t);
  recorder.record("ten_1", "api.calls", 10n ** 12n, new Date(5));
  client.close();
  const [batch] = JSON.parse(JSON.stringify(await recorder.close())) as { events: object[] }[];
  const occurredAt = new Date(5).toISOString();
  assert.deepEqual(batch?.events, [{ tenantId: "ten_1", metric: "api.calls", quantity: 1e12, occurredAt }]);
});

test("an invalid event does not affect others", async (t) => {
  const rejected: UsageEvent[] = [];
  const { fake, recorder, sent } = await recording(t, { onRejected: (event) => void rejected.push(event) });
  fake.answer(recordUsage, ({ events }) => {
    if (events.some(({ tenantId }) => tenantId === "bad")) throw invalid("events[0].tenant_id");
    return { accepted: events.length };
  });
  for (let event = 0; event < 9; event += 1)
    recorder.record(event === 4 ? "bad" : "good", "api.calls", event);
  await recorder.flush();
  assert.deepEqual(
    rejected.map(({ tenantId }) => tenantId),
    ["bad"],
  );
  const counted = sent().filter(({ events }) => events.every(({ tenantId }) => tenantId === "good"));
  assert.equal(counted.flatMap(({ events }) => events).length, 8);
  assert.equal(new Set(sent().map(({ requestId }) => requestId)).size, sent().length);
  assert.equal(recorder.queued, 0);
});

test("an invalid event is rejected immediately", async (t) => {
  const { recorder } = await recording(t);
  const wrong: [string, unknown, unknown, unknown, unknown?][] = [
    ["tenantId", "", "a", 1],
    ["tenantId", "t".repeat(5_000_000), "a", 1],
    ["tenantId", 7, "a", 1],
    ["tenantId", "a b", "a", 1],
    ["tenantId", "\ud800", "a", 1],
    ["metric", "t", "API", 1],
    ["metric", "t", "m".repeat(65), 1],
    ["quantity", "t", "a", 0.5],
    ["quantity", "t", "a", -1],
    ["quantity", "t", "a", Number.NaN],
    ["quantity", "t", "a", true],
    ["quantity", "t", "a", "1"],
    ["quantity", "t", "a", 2n ** 63n],
    ["quantity", "t", "a", 1_000_000_000_001],
    ["at", "t", "a", 1, new Date("never")],
    ["at", "t", "a", 1, new Date(-1)],
    ["at", "t", "a", 1, new Date(253_402_300_800_000)],
    ["at", "t", "a", 1, 5],
  ];
  for (const [field, ...event] of wrong) {
    const args = event as Parameters<UsageRecorder["record"]>;
    assert.throws(() => recorder.record(...args), new RegExp(`^TypeError: ${field} must`));
  }
  assert.equal(recorder.queued, 0);
});

test("invalid recorder options are rejected", async (t) => {
  const { client, recorder } = await recording(t);
  for (const options of [
    { capacity: 0 },
    { batchSize: 501 },
    { maxDelayMs: Infinity },
    { timeoutMs: -1 },
    { x: 1 },
  ]) {
    assert.throws(() => client.usageRecorder(options as RecorderOptions), TypeError);
  }
  assert.throws(() => recorder.close(Infinity), /timeoutMs must be more than 0/);
});

test("a recorder of a closed client rejects events and returns unsent ones", async (t) => {
  const { client, recorder } = await recording(t);
  recorder.record("ten_1", "api.calls", 1);
  client.close();
  assert.throws(() => recorder.record("ten_1", "api.calls", 1), { kind: "closed" });
  assert.equal((await recorder.close()).length, 1);
});

test("a process that exits without close() reports lost events", withService, async (t) => {
  const { endpoint } = await startService(t);
  const script = `
    import { Client } from "@tenant-auth/client";
    const recorder = new Client(${JSON.stringify(endpoint)}).usageRecorder();
    for (let event = 0; event < 3; event += 1) recorder.record("ten_demo", "api.calls", 1);
    process.exit(0);`;
  const program = new Program(t, process.execPath, ["--input-type=module", "-e", script], {});
  await program.ended;
  assert.match(
    program.complaints.join("\n"),
    /usage events not sent: 3; call close\(\) on the usage recorder/,
  );
});

test("a disposed recorder has sent all events", withService, async (t) => {
  const { endpoint } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const recorder = client.usageRecorder();
  for (let event = 0; event < 1200; event += 1) recorder.record("ten_demo", "api.calls", 1);
  await recorder[Symbol.asyncDispose]();
  const span = { start: new Date(Date.now() - 7_200_000), end: new Date(Date.now() + 7_200_000) };
  let total = 0n;
  for await (const { quantity } of client.usage.query({ tenantId: "ten_demo", ...span })) total += quantity;
  assert.equal(total, 1200n);
});
