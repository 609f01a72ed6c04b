import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { status } from "@grpc/grpc-js";
import type { Client } from "../src/client.js";
import type { TenantAuthError } from "../src/error.js";
import { type RecordUsageRequest, UsageService } from "../src/gen/tenantauth/v1/usage_pb.js";
import { type RecorderOptions, UsageNotTakenError, type UsageRecorder } from "../src/recorder.js";
import type { UsageEvent } from "../src/usage.js";
import { invalid, unavailable } from "./support/answers.js";
import type { Fake } from "./support/fake.js";
import type { ManualClock } from "./support/manual-clock.js";
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

test("events wait for each other a second at most", async (t) => {
  const { clock, recorder, sent } = await recording(t);
  recorder.record("ten_1", "api.calls", 1);
  clock.advance(600);
  recorder.record("ten_1", "api.calls", 2, new Date(5000));
  clock.advance(399);
  assert.equal(clock.waiting, 1);
  clock.advance(1);
  await until("they are sent", () => recorder.queued === 0);
  const [batch] = sent();
  assert.equal(sent().length, 1);
  assert.deepEqual(
    batch?.events.map(({ quantity }) => quantity),
    [1n, 2n],
  );
  // An event happened when it was recorded, not when it is sent.
  assert.equal(batch?.events[0]?.occurredAt?.seconds, BigInt(Date.UTC(2026, 0, 1) / 1000));
  assert.equal(batch?.events[1]?.occurredAt?.seconds, 5n);
});

test("a full batch is sent at once, and batches have ids of their own", async (t) => {
  const { recorder, sent } = await recording(t);
  for (let event = 0; event < 1000; event += 1) recorder.record("ten_1", "api.calls", 1);
  await until("they are sent", () => recorder.queued === 0);
  assert.deepEqual(
    sent().map(({ events }) => events.length),
    [500, 500],
  );
  assert.equal(new Set(sent().map(({ requestId }) => requestId)).size, 2);
});

test("a batch without an answer is resent as it was, while new events wait", async (t) => {
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

test("a full queue says so and takes what fits again later", async (t) => {
  const { fake, recorder } = await recording(t, { capacity: 2, batchSize: 2 });
  const hold = gate();
  fake.answer(recordUsage, async () => {
    await hold.passed;
    return { accepted: 2 };
  });
  for (const quantity of [1, 2]) recorder.record("ten_1", "api.calls", quantity);
  const full = (error: unknown): boolean => error instanceof UsageNotTakenError && error.reason === "full";
  assert.throws(() => recorder.record("ten_1", "api.calls", 3), full);
  hold.open();
  await until("there is room", () => recorder.queued === 0);
  recorder.record("ten_1", "api.calls", 3);
  assert.equal(recorder.queued, 1);
});

test("flush sends now, and rejects when that fails without losing anything", async (t) => {
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

test("close sends what is there, and then takes nothing more", async (t) => {
  const { recorder, clock, sent } = await recording(t);
  recorder.record("ten_1", "api.calls", 1);
  assert.deepEqual(await recorder.close(), []);
  assert.equal(sent().length, 1);
  assert.throws(() => recorder.record("ten_1", "api.calls", 1), /the usage recorder is closed/);
  assert.equal(clock.waiting, 0);
});

test("close gives back what it could not send, under the ids it was sent with", async (t) => {
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
    [[1n], [2n]],
  );
  assert.equal(unsent[0]?.requestId, sent()[0]?.requestId);
  assert.equal(await recorder.close(), unsent);
  assert.equal(clock.waiting, 0);
});

test("close does not wait for an answer that does not come", async (t) => {
  const { fake, clock, recorder, sent } = await recording(t, { batchSize: 1 });
  fake.answer(recordUsage, () => gate<never>().passed);
  recorder.record("ten_1", "api.calls", 1);
  await until("it was sent", () => sent().length === 1);
  const closing = recorder.close(1000);
  clock.advance(1000);
  assert.equal((await closing).length, 1);
});

test("events that can never be counted are handed to whoever wants to know", async (t) => {
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
  recorder.record("ten_3", "API calls", 1);
  await recorder.flush();
  assert.deepEqual([rejected[1]?.[0].tenantId, rejected[1]?.[1].kind], ["ten_3", "invalid"]);
  assert.equal(recorder.queued, 0);
});

test("what can never be sent is refused before it is taken", async (t) => {
  const { recorder } = await recording(t);
  assert.throws(() => recorder.record("ten_1", "api.calls", 0.5), /quantity must be a whole number/);
  assert.throws(() => recorder.record("ten_1", "api.calls", 1, new Date("never")), /at must be a valid Date/);
  assert.equal(recorder.queued, 0);
});
