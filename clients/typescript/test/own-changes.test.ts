import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "../src/client.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { keyAnswer } from "./support/answers.js";
import { connected } from "./support/setup.js";
import { gate, until } from "./support/until.js";

const { validateSession } = ValidationService.method;

const changes = [
  ["bind", (client) => client.sessions.bind({ sessionId: "s", key: "k", ttlMs: 1000 })],
  ["unbind", (client) => client.sessions.unbind("s", "ten_1")],
  ["raw unbind", (client) => client.raw.sessions.unbindSession({ sessionId: "s", tenantId: "ten_1" })],
  ["revoke", (client) => client.raw.admin.revokeKey({ keyId: "key_1" })],
  ["rotate", (client) => client.raw.admin.rotateKey({ keyId: "key_1" })],
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
