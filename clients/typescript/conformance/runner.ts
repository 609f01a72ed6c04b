/** Runs the commands of the conformance driver: one JSON command per line in, one JSON answer per line out. */
import { createInterface } from "node:readline";
import { Client, type ClientOptions } from "@tenant-auth/client";
import { failed } from "./answers.js";
import { type Command, operations } from "./operations.js";

function say(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

const environment = process.env;

function tls(): ClientOptions["tls"] {
  const parts = {
    caFile: environment.TENANT_AUTH_TLS_CA_FILE,
    certFile: environment.TENANT_AUTH_TLS_CERT_FILE,
    keyFile: environment.TENANT_AUTH_TLS_KEY_FILE,
    serverName: environment.TENANT_AUTH_TLS_SERVER_NAME,
  };
  const set = Object.entries(parts).filter(([, value]) => value);
  return set.length > 0 && Object.fromEntries(set);
}

function callerToken(): ClientOptions["callerToken"] {
  const { TENANT_AUTH_TOKEN_FILE: file, TENANT_AUTH_TOKEN: token } = environment;
  return file ? { file } : token;
}

function connect(): Client {
  const token = callerToken();
  const timeout = environment.TENANT_AUTH_TIMEOUT_MS;
  return new Client(environment.TENANT_AUTH_ENDPOINTS ?? "", {
    tls: tls() ?? false,
    ...(token !== undefined && { callerToken: token }),
    ...(timeout && { timeoutMs: Number(timeout) }),
    nearCache: environment.TENANT_AUTH_NEAR_CACHE !== "off" && {
      watch: environment.TENANT_AUTH_WATCH !== "off",
    },
  });
}

function connectOrEnd(): Client {
  try {
    return connect();
  } catch (error) {
    say({ ready: false, error: (error as Error).message });
    process.exit(2);
  }
}

const client = connectOrEnd();

async function run(command: Command): Promise<void> {
  const { id } = command;
  const operation = operations[command.op];
  if (operation === undefined) return say({ id, error: "UNSUPPORTED" });
  try {
    // An absent or zero timeout means the client's default.
    const { timeout_ms, ...rest } = command;
    say({ id, ...(await operation(client, timeout_ms ? { ...rest, timeout_ms } : rest)) });
  } catch (error) {
    say({ id, ...failed(error) });
  }
}

say({ ready: true });
const running = new Set<Promise<void>>();
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === "") continue;
  const command = JSON.parse(line) as Command;
  if (command.op === "close") {
    await Promise.all(running);
    client.close();
    say({ id: command.id, closed: true });
    break;
  }
  // Not awaited, because commands run concurrently.
  const one = run(command).finally(() => running.delete(one));
  running.add(one);
}
client.close();
process.exit(0);
