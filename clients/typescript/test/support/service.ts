import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Program } from "./process.js";

const BINARY = process.env.TENANT_AUTH_SVC_BIN;

/** Options for tests that need the real service: without its binary they are skipped, and say why. */
export const withService = {
  skip: BINARY ? false : "TENANT_AUTH_SVC_BIN does not name the service's binary",
};

/** The real service with a database of its own, gone when the test is over. */
export async function startService(t: TestContext): Promise<{ endpoint: string; key: string }> {
  const folder = await mkdtemp(join(tmpdir(), "tenant-auth-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const args = ["dev", "--data-dir", folder, "--listen", "127.0.0.1:0"];
  const service = new Program(t, BINARY ?? "", args, {});
  const endpoint = await service.said(/^ *endpoint +(\S+)/);
  return { endpoint, key: await service.said(/^ *key +(\S+)/) };
}
