import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "../src/client.js";
import { InfoService } from "../src/gen/tenantauth/v1/info_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { Fake } from "./support/fake.js";
import { ManualClock } from "./support/manual-clock.js";
import { clientOf } from "./support/service.js";
import { connected, failure } from "./support/setup.js";
import { gate, until } from "./support/until.js";

const { validateSession } = ValidationService.method;
const { waitForRevision } = InfoService.method;

const changes = [
  ["bind", (client) => client.sessions.bind({ sessionId: "s", key: "k", ttlMs: 1000 })],
  ["unbind", (client) => client.sessions.unbind("s", "ten_1")],
  ["raw unbind", (client) => client.raw.sessions.unbindSession({ sessionId: "s", tenantId: "ten_1" })],
  ["revoke", (client) => client.raw.admin.revokeKey({ keyId: "key_1" })],
  ["rotate", (client) => client.raw.admin.rotateKey({ keyId: "key_1" })],
  ["update a key", (client) => client.raw.admin.updateKey({ keyId: "key_1" })],
  ["report a leak", (client) => client.raw.admin.reportLeak({ plaintext: "k", source: "github" })],
  ["update a tenant", (client) => client.raw.admin.updateTenant({ tenantId: "ten_1" })],
  ["delete a tenant", (client) => client.raw.admin.deleteTenant({ tenantId: "ten_1", reason: "left" })],
  ["suspend", (client) => client.raw.admin.suspendTenant({ tenantId: "ten_1" })],
  ["resume", (client) => client.raw.admin.resumeTenant({ tenantId: "ten_1" })],
] as const satisfies readonly (readonly [string, (client: Client) => Promise<unknown>])[];

for (const [name, change] of changes) {
  test(`own changes invalidate the near cache, even if they fail: ${name}`, async (t) => {
    const { fake, client } = await connected(t, { nearCache: { watch: false }, retryBudget: 0 });
    fake.answer(validateSession, () => keyAnswer());
    await client.validateSession("s");
    assert.equal((await client.validateSession("s")).source, "NEAR");
    // The fake implements none of these RPCs.
    await change(client).catch(() => undefined);
    assert.equal((await client.validateSession("s")).source, "FRESH");
    // Answers to requests in flight are not cached.
    const hold = gate();
    fake.answer(validateSession, async () => {
      await hold.passed;
      return keyAnswer();
    });
    const calls = fake.calls.length;
    const asked = client.validateSession("s", { key: "second" });
    await until("the call is there", () => fake.calls.length > calls);
    await change(client).catch(() => undefined);
    hold.open();
    await asked;
    assert.equal((await client.validateSession("s", { key: "second" })).source, "FRESH");
    assert.equal((await client.validateSession("s", { key: "second" })).source, "NEAR");
  });
}

const reads = [
  ["explain", (client) => client.raw.admin.explainKey({ keyId: "key_1" })],
  ["wait", (client) => client.raw.info.waitForRevision({ revision: 7n })],
] as const satisfies readonly (readonly [string, (client: Client) => Promise<unknown>])[];

for (const [name, read] of reads) {
  test(`reads do not invalidate the near cache: ${name}`, async (t) => {
    const { fake, client } = await connected(t, { nearCache: { watch: false } });
    fake.answer(validateSession, () => keyAnswer());
    await client.validateSession("s");
    assert.equal((await failure(read(client))).code, "UNIMPLEMENTED");
    assert.equal((await client.validateSession("s")).source, "NEAR");
  });
}

test("a wait for a revision is neither hedged nor retried", async (t) => {
  const fakes = [await Fake.start(), await Fake.start()];
  const clock = new ManualClock();
  const endpoints = fakes.map(({ endpoint }) => endpoint);
  const client = clientOf(t, endpoints, { nearCache: false, timeoutMs: 10_000, clock });
  const hold = gate();
  for (const fake of fakes) {
    t.after(() => fake.close());
    fake.answer(ValidationService.method.validateKey, () => keyAnswer());
    fake.answer(waitForRevision, async ({ revision }) => {
      await hold.passed;
      if (revision === 8n) throw unavailable();
      return { applied: true };
    });
  }
  await until("both are connected", async () => {
    await client.validateKey("k");
    return fakes.every(({ calls }) => calls.length > 0);
  });
  const waits = (): number => fakes.flatMap((fake) => fake.callsOf(waitForRevision)).length;
  const waiting = client.raw.info.waitForRevision({ revision: 7n });
  await until("the call is there", () => waits() === 1);
  clock.advance(2600); // more than a quarter of the timeout
  await client.validateKey("k");
  assert.equal(waits(), 1);
  hold.open();
  assert.equal((await waiting).applied, true);
  assert.equal((await failure(client.raw.info.waitForRevision({ revision: 8n }))).kind, "unavailable");
  assert.equal(waits(), 2);
});
