import {
  type ConsumeOutcome,
  type Cost,
  type LimitCredential,
  type LimitDecision,
  type LimitOutcome,
  TenantAuthError,
} from "@tenant-auth/client";
import { decision, failed, type Operation } from "./answers.js";

/** What `consume` takes; `reserve` takes the same, with its own id. */
export interface ConsumeCommand {
  readonly key?: string;
  readonly session_id?: string;
  readonly scopes?: readonly string[];
  readonly client_address?: string;
  readonly costs?: readonly Cost[];
  readonly consume_id?: string;
}

/** The fields of commands about limits. */
export interface LimitCommand extends ConsumeCommand {
  readonly requests?: readonly ConsumeCommand[];
  readonly reservation_id?: string;
  readonly expires_in_ms?: number;
  readonly on_expiry?: "RELEASE" | "CHARGE";
  readonly actual?: readonly Cost[];
  readonly tenant_id?: string;
  readonly key_id?: string;
  readonly timeout_ms?: number;
}

export const limitOperations: Readonly<Record<string, Operation<LimitCommand>>> = {
  consume: async (client, command) => {
    const { costs = [], consume_id: consumeId, timeout_ms: timeoutMs } = command;
    return consumed(await client.limits.consume(credential(command), costs, { consumeId, timeoutMs }));
  },

  consume_many: async (client, { requests = [], timeout_ms: timeoutMs }) => {
    const queries = requests.map((one) => {
      return { credential: credential(one), costs: one.costs ?? [], consumeId: one.consume_id };
    });
    return { items: (await client.limits.consumeMany(queries, { timeoutMs })).map(consumed) };
  },

  reserve: async (client, command) => {
    const { costs = [], reservation_id: reservationId, expires_in_ms: expiresInMs } = command;
    const { on_expiry: onExpiry, timeout_ms: timeoutMs } = command;
    const options = { reservationId, expiresInMs, onExpiry, timeoutMs };
    const reserved = await client.limits.reserve(credential(command), costs, options);
    const { reservation, alreadyReserved: already_reserved } = reserved;
    const expires_in_ms = whole(reservation?.expiresInMs);
    return { ...limited(reserved), reservation_id: reservation?.id, expires_in_ms, already_reserved };
  },

  settle: async (client, { reservation_id = "", actual = [], timeout_ms: timeoutMs }) => {
    const { state, limits, alreadySettled } = await client.limits.settle(reservation_id, actual, {
      timeoutMs,
    });
    const settled = limits.map(({ exceededBy: exceeded_by, ...limit }) => ({ ...limit, exceeded_by }));
    return { state, already_settled: alreadySettled, limits: settled };
  },

  cancel: async (client, { reservation_id = "", timeout_ms: timeoutMs }) => {
    return { state: await client.limits.cancel(reservation_id, { timeoutMs }) };
  },

  limit_state: async (client, { tenant_id: tenantId, key_id: keyId = "", timeout_ms: timeoutMs }) => {
    const of = tenantId === undefined ? { keyId } : { tenantId };
    const states = await client.limits.state(of, { timeoutMs });
    const limits = states.map(({ limit, used, leased, reserved, unaccounted, remaining, resetAfterMs }) => {
      const amounts = { used, leased, reserved, unaccounted, remaining };
      return { name: limit.name, metric: limit.metric, ...amounts, reset_after_ms: whole(resetAfterMs) };
    });
    return { limits };
  },
};

function credential({ key, session_id, scopes = [], client_address }: ConsumeCommand): LimitCredential {
  const conditions = { scopes, clientAddress: client_address };
  if (session_id === undefined) return { key: key ?? "", ...conditions };
  return { sessionId: session_id, key, ...conditions };
}

function consumed(outcome: ConsumeOutcome): object {
  if (outcome instanceof TenantAuthError) return failed(outcome);
  return { ...limited(outcome), already_consumed: outcome.alreadyConsumed };
}

function limited({ verdict, allowed, validation, limits }: LimitOutcome): object {
  return { ...decision(validation), verdict, allowed, limits: limits.map(limitDecision) };
}

function limitDecision(one: LimitDecision): object {
  const { name, metric, limit, remaining, decidedBy: decided_by, exceeded, shadow } = one;
  const window_ms = whole(one.windowMs);
  const reset_after_ms = whole(one.resetAfterMs);
  const retry_after_ms = whole(one.retryAfterMs);
  const spans = { window_ms, reset_after_ms, retry_after_ms };
  return { name, metric, limit, remaining, ...spans, decided_by, exceeded, shadow };
}

function whole(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.ceil(ms);
}
