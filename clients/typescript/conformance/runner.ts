/** Runs the commands of a conformance driver: one JSON command a line in, one JSON answer a line out. */
import { createInterface } from "node:readline";
import { Client, TenantAuthError } from "@tenant-auth/client";
import { type Command, operations } from "./operations.js";

const endpoints = process.env.TENANT_AUTH_ENDPOINTS;
if (!endpoints) {
  console.error("TENANT_AUTH_ENDPOINTS must name the service, such as 127.0.0.1:50051");
  process.exit(2);
}

const client = new Client(endpoints.split(","), {
  nearCache: process.env.TENANT_AUTH_NEAR_CACHE !== "off" && {
    watch: process.env.TENANT_AUTH_WATCH !== "off",
  },
});

function say(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

async function run(command: Command): Promise<void> {
  const { id } = command;
  const operation = operations[command.op];
  if (operation === undefined) return say({ id, error: "UNSUPPORTED" });
  try {
    say({ id, ...(await operation(client, command)) });
  } catch (error) {
    say({ id, ...failed(error) });
  }
}

function failed(error: unknown): object {
  if (!(error instanceof TenantAuthError)) return { error: "INVALID_ARGUMENT", fields: [] };
  const fields = error.violations.map(({ field }) => field);
  return {
    error: error.code,
    ...(error.reason && { reason: error.reason }),
    ...(fields.length > 0 && { fields }),
  };
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
  // Not awaited: commands are handled side by side.
  const one = run(command).finally(() => running.delete(one));
  running.add(one);
}
client.close();
process.exit(0);
