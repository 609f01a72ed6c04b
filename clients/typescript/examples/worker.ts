/**
 * A worker that records the usage of its jobs. Jobs are lines of standard input:
 *
 *   echo '{"tenant_id":"ten_demo","text":"to be or not to be"}' | npm run example:worker
 *
 * Usage that could not be recorded is printed at the end with its request ids, so that it can be recorded later without
 * counting twice.
 */
import { createInterface } from "node:readline";
import { Client, UsageQueueFullError } from "@tenant-auth/client";

interface Job {
  readonly tenant_id: string;
  readonly text: string;
}

const client = new Client(process.env.TENANT_AUTH_ENDPOINTS ?? "127.0.0.1:50051", {
  userAgent: "worker-example/1.0",
  // The worker validates no keys.
  nearCache: false,
});
const recorder = client.usageRecorder({
  onRejected: (event, error) =>
    console.error(`usage rejected: ${event.tenantId} ${event.metric}:`, error.message),
});

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line) as Job;
  const words = job.text.split(/\s+/).filter(Boolean).length;
  console.log(JSON.stringify({ tenant_id: job.tenant_id, words }));
  await meter(job.tenant_id, words);
}

const unsent = await recorder.close(Number(process.env.PATIENCE_MS ?? 5000));
client.close();
for (const batch of unsent) console.error("usage not recorded:", JSON.stringify(batch));
process.exitCode = unsent.length > 0 ? 1 : 0;

/** Waits if the queue is full: work that cannot be recorded is not done. */
async function meter(tenantId: string, words: number): Promise<void> {
  try {
    recorder.record(tenantId, "words.counted", words);
  } catch (error) {
    if (!(error instanceof UsageQueueFullError)) throw error;
    await recorder.flush();
    recorder.record(tenantId, "words.counted", words);
  }
}
