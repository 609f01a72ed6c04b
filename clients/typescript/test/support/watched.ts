import type { TestContext } from "node:test";
import type { Client } from "../../src/client.js";
import { ValidationService } from "../../src/gen/tenantauth/v1/validation_pb.js";
import { keyAnswer } from "./answers.js";
import type { Fake } from "./fake.js";
import type { FakeWatch } from "./fake-watch.js";
import type { ManualClock } from "./manual-clock.js";
import { connected } from "./setup.js";
import { until } from "./until.js";

const { validateKey } = ValidationService.method;

/** A client whose watch stream is live at revision 10, and whose answers are cacheable for a second. */
export async function watched(
  t: TestContext,
): Promise<{ fake: Fake; client: Client; clock: ManualClock; watch: FakeWatch }> {
  const { fake, client, clock } = await connected(t);
  fake.answer(validateKey, ({ key }) => keyAnswer({ keyId: `key_${key}`, cacheableForMs: 1000 }));
  const watch = await opened(fake, 0);
  await heartbeat(client, watch, 10n);
  return { fake, client, clock, watch };
}

export async function opened(fake: Fake, before: number, clock?: ManualClock): Promise<FakeWatch> {
  await until("a watch is opened", () => {
    clock?.advance(10);
    return fake.watches.length > before;
  });
  return fake.watches.at(-1) as FakeWatch;
}

export async function heartbeat(client: Client, watch: FakeWatch, revision: bigint): Promise<void> {
  watch.heartbeat(revision);
  await until("the heartbeat is applied", () => client.watchState().revision === revision);
}

/** Advances the clock with one heartbeat per second. */
export async function pass(
  client: Client,
  watch: FakeWatch,
  clock: ManualClock,
  seconds: number,
): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    clock.advance(1000);
    await heartbeat(client, watch, client.watchState().revision + 1n);
  }
}
