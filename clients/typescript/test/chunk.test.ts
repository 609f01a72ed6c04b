import assert from "node:assert/strict";
import { test } from "node:test";
import { moment } from "../src/clock.js";
import { TenantAuthError } from "../src/error.js";
import { Chunk } from "../src/limits/chunk.js";
import type { Cost } from "../src/limits/cost.js";
import { Reservation } from "../src/limits/reservation.js";
import { ManualClock } from "./support/manual-clock.js";
import { until } from "./support/until.js";

interface Setup {
  readonly clock: ManualClock;
  readonly chunk: Chunk;
  /** The actual amounts of each attempt to settle. */
  readonly settled: (number | bigint | undefined)[];
  readonly stop: AbortController;
  /** Fails the attempts to settle from now on. */
  failWith(error: Error | undefined): void;
}

/** A chunk of 10 that was requested 10 seconds ago and expires 30 seconds after its request. */
function setup(): Setup {
  const clock = new ManualClock();
  const settled: (number | bigint | undefined)[] = [];
  const stop = new AbortController();
  let failure: Error | undefined;
  const settle = async (_: string, actual: readonly Cost[]) => {
    settled.push(actual[0]?.amount);
    if (failure !== undefined) throw failure;
    return { state: "SETTLED", limits: [], alreadySettled: false } as const;
  };
  const reservation = new Reservation("r-1", 30_000, { settle, cancel: async () => "CANCELLED" });
  const start = moment(clock);
  clock.advance(10_000);
  const shared = { clock, metric: "requests", stop: stop.signal, onRetired: () => undefined };
  const chunk = new Chunk({ ...shared, reservation, amount: 10, start });
  const failWith = (error: Error | undefined): void => {
    failure = error;
  };
  return { clock, chunk, settled, stop, failWith };
}

test("chunk: it ends three seconds before its expiry, counted from before it was requested", () => {
  const { clock, chunk, settled } = setup();
  chunk.take(4);
  clock.advance(16_999);
  assert.deepEqual([chunk.left, settled], [6, []]);
  clock.advance(1);
  assert.deepEqual([chunk.left, settled], [0, [4]]);
});

test("chunk: it also ends if the machine was suspended", () => {
  const { clock, chunk } = setup();
  clock.jump(17_000);
  assert.equal(chunk.left, 0);
});

test("chunk: it is settled when it is spent, once", async () => {
  const { clock, chunk, settled } = setup();
  chunk.take(4);
  chunk.take(6);
  assert.deepEqual([chunk.left, settled], [0, [10]]);
  await chunk.retire();
  clock.advance(60_000);
  assert.deepEqual([settled, clock.waiting], [[10], 0]);
});

test("chunk: settling is tried again until the expiry, and what is lost is a process warning", async (t) => {
  const warned = t.mock.method(process, "emitWarning", () => undefined);
  const first = setup();
  first.failWith(new TenantAuthError("UNAVAILABLE", "no answer"));
  first.chunk.take(4);
  let isSettled = false;
  void first.chunk.retire().then(() => {
    isSettled = true;
  });
  await until("it was tried three times", () => {
    first.clock.advance(10);
    return first.settled.length >= 3;
  });
  first.failWith(undefined);
  await until("it is settled", () => {
    first.clock.advance(10);
    return isSettled;
  });
  assert.deepEqual([new Set(first.settled), warned.mock.calls.length], [new Set([4]), 0]);
  const second = setup();
  second.failWith(new TenantAuthError("UNAVAILABLE", "no answer"));
  second.chunk.take(4);
  let isOver = false;
  void second.chunk.retire().then(() => {
    isOver = true;
  });
  await until("it gave up", () => {
    second.clock.advance(1000);
    return isOver;
  });
  const warnings = warned.mock.calls.map(({ arguments: [message] }) => message);
  assert.deepEqual(warnings, ["6 requests that were reserved and not used count as used"]);
});

test("chunk: settling ends with the limiter, and at an error that stays", async (t) => {
  const warned = t.mock.method(process, "emitWarning", () => undefined);
  const { chunk, settled, stop, failWith } = setup();
  failWith(new TenantAuthError("UNAVAILABLE", "no answer"));
  const retired = chunk.retire();
  await until("it was tried", () => settled.length === 1);
  stop.abort();
  await retired;
  const other = setup();
  other.failWith(new TenantAuthError("NOT_FOUND", "no reservation"));
  await other.chunk.retire();
  assert.deepEqual([other.settled.length, warned.mock.calls.length], [1, 2]);
});
