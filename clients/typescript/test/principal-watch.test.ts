import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type FakeWatch, InvalidationScope } from "./support/fake-watch.js";
import { refusal, token, type Verifying, verifying } from "./support/principal-tokens.js";
import { failure } from "./support/setup.js";
import { until } from "./support/until.js";

const { KEY, TENANT, SESSION } = InvalidationScope;

/** A verifier whose client's watch stream is live at revision 10, that of the tokens. */
async function watched(t: TestContext): Promise<Verifying & { watch: FakeWatch }> {
  const one = await verifying(t, {});
  await until("a watch is opened", () => one.fake.watches.length > 0);
  const watch = one.fake.watches[0] as FakeWatch;
  watch.heartbeat(10n);
  await reached(one, 10n);
  return { ...one, watch };
}

async function reached({ client }: Verifying, revision: bigint): Promise<void> {
  await until("the event is applied", () => client.watchState().revision === revision);
}

test("a change of the key or tenant makes a token outdated", async (t) => {
  for (const [scope, id] of [
    [KEY, "key_1"],
    [TENANT, "ten_1"],
  ] as const) {
    const one = await watched(t);
    const signed = await token(one);
    assert.equal(await refusal(one.verifier.verify(signed)), "accepted");
    one.watch.invalidate(scope, id, 11n);
    await reached(one, 11n);
    // The scope may be the change.
    const error = await failure(one.verifier.verify(signed, { requiredScopes: ["users:read"] }));
    assert.deepEqual(
      [error.kind, error.code, error.reason, error.retryAfterMs, error.transient],
      ["outdated", "ABORTED", "OUTDATED_PRINCIPAL", 1000, true],
    );
    assert.equal(await refusal(one.verifier.verify(await token(one, { rev: 11 }))), "accepted");
  }
});

test("other and earlier changes do not make a token outdated", async (t) => {
  const one = await watched(t);
  for (const [scope, id, revision] of [
    [KEY, "key_1", 10n],
    [TENANT, "ten_1", 9n],
    [KEY, "key_2", 12n],
    [KEY, "ten_1", 13n],
    [TENANT, "ten_2", 14n],
    [SESSION, "key_1", 15n],
  ] as const) {
    one.watch.invalidate(scope, id, revision);
  }
  await reached(one, 15n);
  assert.equal(await refusal(one.verifier.verify(await token(one))), "accepted");
});

test("a change is remembered until its tokens have expired", async (t) => {
  const one = await watched(t);
  one.watch.invalidate(KEY, "key_1", 11n);
  await reached(one, 11n);
  // Only the wall clock, so that the stream does not end.
  one.clock.jump(75_000);
  one.watch.invalidate(KEY, "key_2", 12n);
  await reached(one, 12n);
  assert.equal(await refusal(one.verifier.verify(await token(one))), "outdated");
});

test("a received change counts while the stream is down", async (t) => {
  const one = await watched(t);
  one.watch.invalidate(KEY, "key_1", 11n);
  await reached(one, 11n);
  one.watch.end();
  one.clock.jump(3001);
  assert.equal(one.client.watchState().live, false);
  assert.equal(await refusal(one.verifier.verify(await token(one))), "outdated");
  const other = await token(one, { key_id: "key_2" });
  assert.equal(await refusal(one.verifier.verify(other)), "accepted");
});

test("a start-over forgets the changes", async (t) => {
  const one = await watched(t);
  one.watch.invalidate(KEY, "key_1", 11n);
  await reached(one, 11n);
  one.watch.startOver(5n);
  await reached(one, 5n);
  assert.equal(await refusal(one.verifier.verify(await token(one))), "accepted");
});
