import type { TestContext } from "node:test";
import { Client } from "../../src/client.js";
import { TenantAuthError } from "../../src/error.js";
import type { ClientOptions } from "../../src/options.js";
import { Fake } from "./fake.js";
import { ManualClock } from "./manual-clock.js";

/** A fake, a client of it and its clock, closed when the test ends. */
export async function connected(
  t: TestContext,
  options: ClientOptions = {},
): Promise<{ fake: Fake; client: Client; clock: ManualClock }> {
  const fake = await Fake.start();
  const clock = new ManualClock();
  const client = new Client(fake.endpoint, { clock, timeoutMs: 10_000, ...options });
  t.after(() => {
    client.close();
    fake.close();
  });
  return { fake, client, clock };
}

/** Returns the error that a call fails with; other results fail the test. */
export async function failure(call: Promise<unknown>): Promise<TenantAuthError> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof TenantAuthError) return outcome;
  throw new Error(`expected a TenantAuthError, got ${String(outcome)}`);
}
