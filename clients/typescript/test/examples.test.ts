import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { UsageService } from "../src/gen/tenantauth/v1/usage_pb.js";
import { unavailable } from "./support/answers.js";
import { Fake } from "./support/fake.js";
import { ours } from "./support/process.js";
import { startService, withService } from "./support/service.js";

const { recordUsage } = UsageService.method;

test("examples: the HTTP API admits the demo key of the real service", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const api = ours(t, "examples/http-api", { TENANT_AUTH_ENDPOINTS: endpoint, PORT: "0" });
  const url = await api.said(/^listening on (\S+)$/);
  const ask = async (authorization: string, method = "GET"): Promise<number> =>
    (await fetch(`${url}/orders`, { method, headers: { authorization } })).status;
  assert.equal(await ask(`Bearer ${key}`), 200);
  assert.equal(await ask(`Bearer ${key}`, "POST"), 201);
  assert.equal(await ask("Bearer somebody-elses"), 401);
  api.stop();
  assert.equal(await api.ended, 0);
});

test("examples: the worker records usage for each job", async (t) => {
  const fake = await fakeService(t);
  const worker = ours(t, "examples/worker", { TENANT_AUTH_ENDPOINTS: fake.endpoint });
  worker.write('{"tenant_id":"ten_1","text":"to be or not to be"}\n{"tenant_id":"ten_2","text":"that is"}\n');
  worker.endInput();
  assert.equal(await worker.ended, 0);
  const events = fake.callsOf(recordUsage).flatMap(({ request }) => request.events);
  assert.deepEqual(
    events.map(({ tenantId, metric, quantity }) => [tenantId, metric, quantity]),
    [
      ["ten_1", "words.counted", 6n],
      ["ten_2", "words.counted", 2n],
    ],
  );
});

test("examples: the worker prints unrecorded usage", async (t) => {
  const fake = await fakeService(t);
  fake.answer(recordUsage, () => Promise.reject(unavailable()));
  const worker = ours(t, "examples/worker", { TENANT_AUTH_ENDPOINTS: fake.endpoint, PATIENCE_MS: "100" });
  worker.write('{"tenant_id":"ten_1","text":"to be"}\n');
  worker.endInput();
  assert.equal(await worker.ended, 1);
  assert.match(
    worker.complaints.join("\n"),
    /not recorded: \{"requestId":"[0-9a-f-]{36}","events":\[\{"tenantId":"ten_1"/,
  );
});

/** A service that records usage. */
async function fakeService(t: TestContext): Promise<Fake> {
  const fake = await Fake.start();
  t.after(() => fake.close());
  fake.answer(recordUsage, ({ events }) => ({ accepted: events.length }));
  return fake;
}
