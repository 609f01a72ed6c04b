import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { Client } from "../../src/client.js";
import type { ClientOptions } from "../../src/options.js";
import { Program } from "./process.js";

const BINARY = process.env.TENANT_AUTH_SVC_BIN;

/** Options for tests that need the real service: without its binary they are skipped with a message. */
export const withService = {
  skip: BINARY ? false : "TENANT_AUTH_SVC_BIN is not set to the path of the service binary",
};

/** A running service with its own database. */
export interface Service {
  readonly endpoint: string;
  /** The demo tenant's key. */
  readonly key: string;
  readonly program: Program;
}

/** How to start the service. */
export interface ServiceOptions {
  readonly listen?: string;
  /** Configuration of the service; without any, `dev` is started. */
  readonly environment?: NodeJS.ProcessEnv;
  /** Folder of its database; default: a new folder. */
  readonly folder?: string;
}

/** Starts the real service until the test ends. */
export async function startService(t: TestContext, options: ServiceOptions = {}): Promise<Service> {
  const { listen = "127.0.0.1:0", environment } = options;
  const folder = options.folder ?? (await temporaryFolder(t));
  const args = ["dev", "--data-dir", folder, "--listen", environment === undefined ? listen : "127.0.0.1:0"];
  const program = new Program(t, BINARY ?? "", args, {});
  const endpoint = await program.said(/^ *endpoint +(\S+)/);
  const key = await program.said(/^ *key +(\S+)/);
  if (environment === undefined) return { endpoint, key, program };
  // `dev` takes no configuration. It creates the database, which `serve` then uses.
  program.stop();
  await program.ended;
  const served = new Program(t, BINARY ?? "", ["serve"], {
    TENANT_AUTH_SVC_BIN: undefined,
    TENANT_AUTH_LISTEN: listen,
    TENANT_AUTH_OPS_LISTEN: "off",
    TENANT_AUTH_DRAIN_DELAY: "0s",
    TENANT_AUTH_LOG_FORMAT: "json",
    TENANT_AUTH_DATABASE_URL: `file:${join(folder, "dev.db")}`,
    ...environment,
  });
  await served.said(/"message":"(ready): /);
  return { endpoint: await served.said(/"message":"serving","address":"([^"]+)"/), key, program: served };
}

/** A folder that is deleted when the test ends. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tenant-auth-"));
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

/** A client of real services, closed when the test ends. */
export function clientOf(
  t: TestContext,
  endpoints: string | readonly string[],
  options: ClientOptions = {},
): Client {
  const client = new Client(endpoints, options);
  t.after(() => client.close());
  return client;
}

/** A key that each of these replicas has. */
export const SHARED_KEY = "a-key-of-all-replicas";

/** Replicas with the same key, each with its own database. */
export async function startReplicas(
  t: TestContext,
  count: number,
  options: ServiceOptions = {},
): Promise<Service[]> {
  const services = await Promise.all(Array.from({ length: count }, () => startService(t, options)));
  for (const { endpoint } of services) await shareKey(endpoint);
  return services;
}

export async function shareKey(endpoint: string): Promise<void> {
  const client = new Client(endpoint, { nearCache: false, timeoutMs: 20_000 });
  const sha256 = createHash("sha256").update(SHARED_KEY).digest();
  await client.raw.admin.importKeys({ keys: [{ tenantId: "ten_demo", sha256, scopes: ["demo:read"] }] });
  client.close();
}

/** Path of a file of this package's test certificates. */
export function certificate(name: string): string {
  return fileURLToPath(new URL(`../../../test/tls/${name}`, import.meta.url));
}

/** A callers file in which callers with one of these tokens, or with the test client's certificate, have all roles. */
export async function callersFile(folder: string, tokens: readonly string[] = []): Promise<string> {
  const hashes = tokens.map((token) => `"${createHash("sha256").update(token).digest("hex")}"`);
  const file = join(folder, "callers.toml");
  const roles = 'roles = ["validator", "sessions", "meter", "reporter", "admin"]';
  const shown = tokens.length === 0 ? 'dns = ["tenant-auth.test"]' : `token_sha256 = [${hashes.join(", ")}]`;
  await writeFile(file, `[[caller]]\nname = "tests"\n${roles}\n${shown}\n`);
  return file;
}
