import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import type { Client } from "../src/client.js";
import {
  ConsumeResponseSchema,
  LimitService,
  ReservationExpiry,
  ReservationState as WireState,
} from "../src/gen/tenantauth/v1/limit_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { Reservation } from "../src/limits/reservation.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import { type Fake, Refused } from "./support/fake.js";
import { InvalidationScope } from "./support/fake-watch.js";
import { exceeded, limited, reserved } from "./support/limit-answers.js";
import { NGHTTP2_INTERNAL_ERROR, NGHTTP2_REFUSED_STREAM, refusingServer } from "./support/refusing-server.js";
import { clientOf } from "./support/service.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";
import { heartbeat, watched } from "./support/watched.js";

const { consume, reserve, settle, cancel } = LimitService.method;
const tokens = (amount: number) => [{ metric: "tokens", amount }];

async function setup(t: TestContext): Promise<{ fake: Fake; client: Client }> {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  fake.answer(reserve, () => reserved());
  fake.answer(settle, () => ({
    state: WireState.SETTLED,
    limits: [{ name: "hourly", metric: "tokens", reserved: 10n, charged: 4n, exceededBy: 1n }],
  }));
  fake.answer(cancel, () => ({ state: WireState.CANCELLED }));
  return { fake, client };
}

async function held(client: Client): Promise<Reservation> {
  const { reservation } = await client.limits.reserve("k", tokens(10));
  assert.ok(reservation !== undefined);
  return reservation;
}

test("reservations: one has an id, a lifetime and what the limits say", async (t) => {
  const { fake, client } = await setup(t);
  const outcome = await client.limits.reserve("k", tokens(10));
  assert.deepEqual([outcome.verdict, outcome.allowed, outcome.alreadyReserved], ["VALID", true, false]);
  assert.equal(outcome.limits[0]?.name, "hourly");
  assert.equal(outcome.principal?.tenantId, "ten_1");
  assert.equal(outcome.reservation?.expiresInMs, 600_000);
  const drawn = fake.callsOf(reserve)[0]?.request;
  assert.match(drawn?.reservationId ?? "", /^[0-9a-f-]{36}$/);
  assert.equal(outcome.reservation?.id, drawn?.reservationId);
  assert.deepEqual([drawn?.expiresIn, drawn?.onExpiry], [undefined, ReservationExpiry.RELEASE]);
  const options = { reservationId: "r-1", expiresInMs: 30_000, onExpiry: "CHARGE" } as const;
  assert.equal((await client.limits.reserve("k", tokens(10), options)).reservation?.id, "r-1");
  const given = fake.callsOf(reserve)[1]?.request;
  assert.deepEqual([given?.reservationId, given?.expiresIn?.seconds], ["r-1", 30n]);
  assert.equal(given?.onExpiry, ReservationExpiry.CHARGE);
});

test("reservations: a refusal has no reservation", async (t) => {
  const { fake, client } = await setup(t);
  fake.answer(reserve, () => limited(Verdict.QUOTA_EXCEEDED, [exceeded()]));
  const outcome = await client.limits.reserve("k", tokens(10));
  assert.deepEqual([outcome.allowed, outcome.reservation, outcome.retryAfterMs], [false, undefined, 1500]);
});

test("reservations: a settlement has what counts now", async (t) => {
  const { fake, client } = await setup(t);
  const reservation = await held(client);
  const settlement = await reservation.settle(tokens(0));
  const limit = { name: "hourly", metric: "tokens", reserved: 10, charged: 4, exceededBy: 1 };
  assert.deepEqual(settlement, { state: "SETTLED", limits: [limit], alreadySettled: false });
  const [sent] = fake.callsOf(settle);
  assert.equal(sent?.request.reservationId, reservation.id);
  assert.deepEqual([sent?.request.actual[0]?.metric, sent?.request.actual[0]?.amount], ["tokens", 0n]);
  fake.answer(settle, () => ({ state: 99 as WireState, alreadySettled: true }));
  const again = await client.limits.settle(reservation.id, []);
  assert.deepEqual([again.state, again.alreadySettled], ["UNRECOGNIZED", true]);
});

test("reservations: `await using` cancels one that the code has not ended", async (t) => {
  const { fake, client } = await setup(t);
  const use = async (work: (reservation: Reservation) => Promise<unknown>): Promise<void> => {
    await using reservation = await held(client);
    await work(reservation);
  };
  const failing = use(async () => {
    throw new RangeError("the model failed");
  });
  await assert.rejects(failing, RangeError);
  assert.equal(fake.callsOf(cancel).length, 1);
  assert.equal(
    fake.callsOf(cancel)[0]?.request.reservationId,
    fake.callsOf(reserve)[0]?.request.reservationId,
  );
  await use((reservation) => reservation.settle(tokens(4)));
  await use((reservation) => reservation.cancel());
  assert.deepEqual([fake.callsOf(settle).length, fake.callsOf(cancel).length], [1, 2]);
});

test("reservations: a release does not give back what could not be settled, unless it was invalid", async (t) => {
  const { fake, client } = await setup(t);
  const reservation = await held(client);
  fake.answer(settle, () => Promise.reject(unavailable()));
  assert.equal((await failure(reservation.settle(tokens(4)))).kind, "unavailable");
  await reservation.release();
  assert.equal(fake.callsOf(cancel).length, 0);
  fake.answer(settle, () => Promise.reject(invalid("actual[0].metric")));
  assert.equal((await failure(reservation.settle([{ metric: "x", amount: 1 }]))).kind, "invalid");
  await reservation.release();
  await reservation.release();
  assert.equal(fake.callsOf(cancel).length, 1);
});

test("reservations: a release that fails is a process warning", async (t) => {
  const warned = t.mock.method(process, "emitWarning", () => undefined);
  const { fake, client } = await setup(t);
  const reservation = await held(client);
  const settled = new Refused(status.FAILED_PRECONDITION, "it was settled");
  fake.answer(cancel, () => Promise.reject(settled));
  assert.equal((await failure(reservation.cancel())).code, "FAILED_PRECONDITION");
  await reservation.release();
  assert.match(
    String(warned.mock.calls[0]?.arguments[0]),
    /^reservation [0-9a-f-]{36} could not be cancelled and ends at its expiry: FAILED_PRECONDITION/,
  );
});

test("reservations: each call is sent again with the same id", async (t) => {
  const { fake, client, clock } = await connected(t, { nearCache: false });
  for (const [method, answer, call] of [
    [reserve, reserved(), () => client.limits.reserve("k", tokens(1))],
    [settle, {}, () => client.limits.settle("r-1", [])],
    [cancel, {}, () => client.limits.cancel("r-1")],
  ] as const) {
    let sent = 0;
    fake.answer(method as typeof reserve, () => {
      sent += 1;
      if (sent < 2) throw unavailable();
      return answer;
    });
    const calling = call();
    await until("it was sent again", () => {
      clock.advance(1);
      return sent === 2;
    });
    await calling;
    const ids = fake.callsOf(method as typeof reserve).map(({ request }) => request.reservationId);
    assert.equal(ids.length, 2);
    assert.equal(ids[0], ids[1]);
  }
});

test("reservations: one for a key that is known to be revoked is released", async (t) => {
  const { fake, client, watch } = await watched(t);
  fake.answer(reserve, () => reserved());
  fake.answer(cancel, () => ({ state: WireState.CANCELLED }));
  fake.answer(ValidationService.method.validateKey, () =>
    keyAnswer({ verdict: Verdict.REVOKED, revision: 20n }),
  );
  watch.invalidate(InvalidationScope.KEY, "key_1", 20n);
  await heartbeat(client, watch, 21n);
  const { verdict, reservation } = await client.limits.reserve("k", tokens(1));
  assert.deepEqual([verdict, reservation], ["REVOKED", undefined]);
  await until("it is released", () => fake.callsOf(cancel).length === 1);
});

test("consumptions without an id are repeated only if no replica has processed them", async (t) => {
  const response = toBinary(ConsumeResponseSchema, create(ConsumeResponseSchema, limited()));
  const options = { nearCache: false, timeoutMs: 20_000 };
  const refusing = await refusingServer(t, [NGHTTP2_REFUSED_STREAM], response);
  const asked = clientOf(t, refusing.endpoint, options).limits.consume("k", tokens(1));
  assert.equal((await asked).verdict, "VALID");
  assert.equal(refusing.streams(), 2);
  const broken = await refusingServer(t, [NGHTTP2_INTERNAL_ERROR], response);
  await failure(clientOf(t, broken.endpoint, options).limits.consume("k", tokens(1)));
  assert.equal(broken.streams(), 1);
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(consume, () => {
    fake.close();
    return gate<never>().passed;
  });
  assert.equal((await failure(client.limits.consume("k", tokens(1)))).kind, "unavailable");
  assert.equal(fake.callsOf(consume).length, 1);
});
