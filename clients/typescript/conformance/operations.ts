import { setTimeout } from "node:timers/promises";
import { type Client, DeniedError, TenantAuthError, type UsageBucket } from "@tenant-auth/client";
import { decision, failed, type Operation } from "./answers.js";
import { type LimitCommand, limitOperations } from "./limits.js";

/** A command of the driver. The fields depend on `op`. */
export interface Command extends LimitCommand {
  readonly id?: number;
  readonly op: string;
  readonly keys?: readonly string[];
  readonly times?: number;
  readonly calls?: number;
  readonly interval_ms?: number;
  /** Maximum number of calls in flight; default: no limit. */
  readonly concurrency?: number;
  readonly count?: number;
  readonly ttl_ms?: number;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly request_id?: string;
  readonly events?: readonly {
    tenant_id: string;
    metric: string;
    quantity: number;
    occurred_at_ms?: number;
  }[];
  readonly metric?: string;
  readonly start_ms?: number;
  readonly end_ms?: number;
  readonly bucket?: UsageBucket;
}

export const operations: Readonly<Record<string, Operation<Command>>> = {
  ...limitOperations,

  validate_key: async (client, command) => {
    const { key = "", scopes = [], client_address: clientAddress, timeout_ms: timeoutMs } = command;
    return decision(await client.validateKey(key, { scopes, clientAddress, timeoutMs }));
  },

  require_key: async (client, command) => {
    const { key = "", scopes = [], client_address: clientAddress, timeout_ms: timeoutMs } = command;
    try {
      const principal = await client.requireKey(key, { scopes, clientAddress, timeoutMs });
      const { tenantId: tenant_id, keyId: key_id } = principal;
      return { principal: { tenant_id, key_id } };
    } catch (error) {
      if (!(error instanceof DeniedError)) throw error;
      return { denied: error.verdict, missing_scopes: error.missingScopes };
    }
  },

  load,

  validate_key_concurrently: async (client, { key = "", scopes = [], times = 1, timeout_ms: timeoutMs }) => {
    const asked = Array.from({ length: times }, () => client.validateKey(key, { scopes, timeoutMs }));
    const verdicts: Record<string, number> = {};
    const errors: Record<string, number> = {};
    for (const outcome of await Promise.allSettled(asked)) {
      if (outcome.status === "fulfilled") count(verdicts, outcome.value.verdict);
      else count(errors, outcome.reason instanceof TenantAuthError ? outcome.reason.code : "UNKNOWN");
    }
    return { verdicts, errors };
  },

  validate_keys: async (client, command) => {
    const { keys = [], scopes = [], client_address: clientAddress, timeout_ms: timeoutMs } = command;
    const queries = keys.map((key) => ({ key, scopes, clientAddress }));
    const items = (await client.validateKeys(queries, { timeoutMs })).map((outcome) =>
      outcome instanceof TenantAuthError ? failed(outcome) : decision(outcome),
    );
    return { items };
  },

  validate_session: async (client, command) => {
    const { session_id = "", key, scopes = [], client_address: clientAddress } = command;
    const options = { scopes, clientAddress, timeoutMs: command.timeout_ms };
    const answer = await client.validateSession(
      session_id,
      key === undefined ? options : { ...options, key },
    );
    return decision(answer);
  },

  bind_session: async (client, command) => {
    const { session_id: sessionId = "", key = "", ttl_ms: ttlMs = 0, attributes = {} } = command;
    const { client_address: clientAddress, timeout_ms: timeoutMs } = command;
    const binding = await client.sessions.bind({
      sessionId,
      key,
      ttlMs,
      attributes,
      clientAddress,
      timeoutMs,
    });
    const { tenantId: tenant_id = "", keyId: key_id = "" } = binding.session ?? {};
    return { verdict: binding.verdict, tenant_id, key_id, already_bound: binding.alreadyBound };
  },

  unbind_session: async (client, { session_id = "", tenant_id = "", timeout_ms: timeoutMs }) => ({
    was_bound: await client.sessions.unbind(session_id, tenant_id, { timeoutMs }),
  }),

  record_usage: async (client, { request_id, events = [], timeout_ms: timeoutMs }) => {
    const outcome = await client.usage.record(
      events.map(({ tenant_id: tenantId, metric, quantity, occurred_at_ms: at }) => {
        return { tenantId, metric, quantity, ...(at === undefined ? {} : { occurredAt: new Date(at) }) };
      }),
      { timeoutMs, ...(request_id === undefined ? {} : { requestId: request_id }) },
    );
    const rejected = outcome.rejected.map(({ index, error }) => ({ index, error: error.code }));
    return { accepted: outcome.accepted, rejected, already_recorded: outcome.alreadyRecorded };
  },

  record_many: async (client, { tenant_id = "", metric = "", count: events = 0 }) => {
    let rejected = 0;
    const recorder = client.usageRecorder({
      capacity: Math.max(1, events),
      onRejected: () => {
        rejected += 1;
      },
    });
    for (let event = 0; event < events; event += 1) recorder.record(tenant_id, metric, 1);
    const unsent = await recorder.close(30_000);
    const lost = unsent.reduce((sum, batch) => sum + batch.events.length, 0);
    if (lost > 0) throw new TenantAuthError("UNAVAILABLE", `events not sent: ${lost}`);
    return { accepted: events - rejected, rejected };
  },

  query_usage: async (client, command) => {
    const { tenant_id: tenantId = "", metric = "", start_ms = 0, end_ms = 0, bucket = "DAY" } = command;
    const span = { start: new Date(start_ms), end: new Date(end_ms) };
    const sums: object[] = [];
    const asked = { tenantId, metric, bucket, ...span, timeoutMs: command.timeout_ms };
    for await (const { metric, bucketStart, quantity } of client.usage.query(asked)) {
      sums.push({ metric, bucket_start_ms: bucketStart.getTime(), quantity: Number(quantity) });
    }
    return { sums };
  },

  watch_state: async (client) => {
    const { live, revision } = client.watchState();
    return { live, revision: Number(revision) };
  },

  server_info: async (client, { timeout_ms: timeoutMs }) => {
    const { version, commit, database, revision, schemaVersion } = await client.serverInfo({ timeoutMs });
    return { version, commit, database, revision: Number(revision), schema_version: schemaVersion };
  },
};

/** Makes calls at a fixed rate, whether or not earlier ones have completed. */
async function load(client: Client, command: Command): Promise<object> {
  const { key = "", scopes = [], calls = 0, interval_ms = 0, concurrency, timeout_ms: timeoutMs } = command;
  const verdicts: Record<string, number> = {};
  const errors: Record<string, number> = {};
  const latency_ms: number[] = [];
  const running = new Set<Promise<void>>();
  const one = async (index: number): Promise<void> => {
    const began = performance.now();
    try {
      count(verdicts, (await client.validateKey(key, { scopes, timeoutMs })).verdict);
    } catch (error) {
      count(errors, error instanceof TenantAuthError ? error.code : "UNKNOWN");
    }
    latency_ms[index] = performance.now() - began;
  };
  const start = performance.now();
  for (let call = 0; call < calls; call += 1) {
    await setTimeout(Math.max(0, start + call * interval_ms - performance.now()));
    while (concurrency !== undefined && running.size >= concurrency) await Promise.race(running);
    const asked: Promise<void> = one(call).finally(() => running.delete(asked));
    running.add(asked);
  }
  await Promise.all(running);
  const ok = Object.values(verdicts).reduce((sum, times) => sum + times, 0);
  return { ok, verdicts, errors, latency_ms };
}

function count(tally: Record<string, number>, name: string): void {
  tally[name] = (tally[name] ?? 0) + 1;
}
