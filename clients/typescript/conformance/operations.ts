import { type Client, TenantAuthError, type UsageBucket, type Validation } from "@tenant-auth/client";

/** A command of the driver. Which fields there are depends on `op`. */
export interface Command {
  readonly id?: number;
  readonly op: string;
  readonly key?: string;
  readonly keys?: readonly string[];
  readonly scopes?: readonly string[];
  readonly times?: number;
  readonly timeout_ms?: number;
  readonly session_id?: string;
  readonly tenant_id?: string;
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

type Operation = (client: Client, command: Command) => Promise<object>;

export const operations: Readonly<Record<string, Operation>> = {
  validate_key: async (client, { key = "", scopes = [], timeout_ms: timeoutMs }) =>
    decision(await client.validateKey(key, { scopes, timeoutMs })),

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

  validate_keys: async (client, { keys = [], scopes = [], timeout_ms: timeoutMs }) => {
    const questions = keys.map((key) => ({ key, scopes }));
    const items = (await client.validateKeys(questions, { timeoutMs })).map((outcome) =>
      outcome instanceof TenantAuthError ? { error: outcome.code } : decision(outcome),
    );
    return { items };
  },

  validate_session: async (client, { session_id = "", key, scopes = [], timeout_ms: timeoutMs }) => {
    const limits = { scopes, timeoutMs };
    const answer = await client.validateSession(session_id, key === undefined ? limits : { ...limits, key });
    return { ...decision(answer), attributes: answer.attributes };
  },

  bind_session: async (client, command) => {
    const { session_id: sessionId = "", key = "", ttl_ms: ttlMs = 0, attributes = {} } = command;
    const timeoutMs = command.timeout_ms;
    const binding = await client.sessions.bind({ sessionId, key, ttlMs, attributes, timeoutMs });
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

function decision(answer: Validation): object {
  const { verdict, tenantId, keyId, missingScopes, source, ageMs } = answer;
  return {
    verdict,
    tenant_id: tenantId,
    key_id: keyId,
    missing_scopes: missingScopes,
    source,
    age_ms: ageMs,
  };
}

function count(tally: Record<string, number>, name: string): void {
  tally[name] = (tally[name] ?? 0) + 1;
}
