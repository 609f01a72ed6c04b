import type { IncomingMessage } from "node:http";
import * as checks from "../checks.js";
import { ADAPTER_OPTIONS, type RequireKeyOptions } from "../http/admit.js";
import { undecidedLog } from "../http/undecided-log.js";
import type { ResourceOptions } from "./metadata.js";
import { type McpPolicy, PolicyTable } from "./policy.js";

/** Records usage, such as a `UsageRecorder`. */
export interface UsageSink {
  /** Queues an event. Throws if the event cannot be queued. */
  record(tenantId: string, metric: string, quantity: number): void;
}

/** What the function of the gate's `costs` gets. */
export interface McpRequest {
  readonly request: IncomingMessage;
  /** With a policy: the JSON-RPC message of the body, or those of a batch. */
  readonly messages: readonly Readonly<Record<string, unknown>>[];
}

/**
 * Options of `mcpGate`; besides these, those of all adapters. With a policy, `costs` are taken after the policy has admitted
 * the request.
 */
export interface McpGateOptions extends RequireKeyOptions<McpRequest>, ResourceOptions {
  /** Which keys may use which tools, resources, prompts and methods; default: every valid key may use all. */
  readonly policy?: McpPolicy;
  /** Records the usage that the policy names; required if it names any. */
  readonly usage?: UsageSink;
  /** Whether lists contain only what the key may use; default with a policy: true. */
  readonly filterLists?: boolean;
  /** Maximum size of a body that the policy is applied to; default: 4 MiB. */
  readonly maxBodyBytes?: number;
  /** Lifetime of a session after its last use, at least a minute; default: a day. */
  readonly sessionTtlMs?: number;
  /** How long a stream goes on without a decision while the watch stream is down; default: 10,000 ms. */
  readonly toleranceMs?: number;
  /**
   * Called with the id of a session that the application has opened, but that could not be bound. The client does not get
   * its id, so the application should end it.
   */
  readonly onUnboundSession?: (sessionId: string) => void;
}

/** The checked options that are the gate's own. */
export interface GateSettings {
  readonly policy: PolicyTable | undefined;
  readonly usage: UsageSink | undefined;
  readonly scopes: readonly string[];
  readonly filterLists: boolean;
  readonly maxBodyBytes: number;
  readonly sessionTtlMs: number;
  readonly toleranceMs: number;
  readonly onError: (error: unknown) => void;
  readonly onUnboundSession: (sessionId: string) => void;
  /** The options that all adapters have. */
  readonly admission: RequireKeyOptions<McpRequest>;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const MAX_BODY_BYTES = 1024 ** 3;
const OPTIONS = [
  ...ADAPTER_OPTIONS,
  "policy",
  "usage",
  "filterLists",
  "maxBodyBytes",
  "sessionTtlMs",
  "toleranceMs",
  "onUnboundSession",
  "resource",
  "authorizationServers",
] as const satisfies readonly (keyof McpGateOptions)[];

/** Checks the options. Throws a `TypeError` that names the option and the allowed values. */
export function gateSettings(given: McpGateOptions): GateSettings {
  const {
    policy: table,
    usage,
    filterLists = true,
    maxBodyBytes = 4 * 1024 * 1024,
    sessionTtlMs = DAY_MS,
    toleranceMs = 10_000,
    onUnboundSession = () => undefined,
    resource: _resource,
    authorizationServers: _servers,
    scopes = [],
    onError = undecidedLog(),
    ...admission
  } = checks.options("options", given, OPTIONS);
  const policy = table === undefined ? undefined : new PolicyTable(table);
  if (usage !== undefined) checks.withMethod("usage", usage, "record", "UsageRecorder");
  if (policy?.hasUsage && usage === undefined)
    throw new TypeError("usage must be a UsageRecorder, because the policy names usage to record");
  if (checks.milliseconds("sessionTtlMs", sessionTtlMs) < MINUTE_MS)
    throw new TypeError(`sessionTtlMs must be at least ${MINUTE_MS} milliseconds, not ${sessionTtlMs}`);
  return {
    policy,
    usage,
    scopes: [...new Set(checks.texts("scopes", scopes))],
    filterLists: checks.flag("filterLists", filterLists),
    maxBodyBytes: checks.count("maxBodyBytes", maxBodyBytes, MAX_BODY_BYTES),
    sessionTtlMs,
    toleranceMs: checks.milliseconds("toleranceMs", toleranceMs),
    onError: checks.callback("onError", onError) ?? onError,
    onUnboundSession: checks.callback("onUnboundSession", onUnboundSession) ?? onUnboundSession,
    admission: { ...admission, onError },
  };
}
