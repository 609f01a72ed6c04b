import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import * as checks from "../checks.js";
import {
  CancelRequestSchema,
  ConsumeRequestSchema,
  GetLimitStateRequestSchema,
  LimitService,
  ReservationExpiry,
  ReserveRequestSchema,
  SettleRequestSchema,
} from "../gen/tenantauth/v1/limit_pb.js";
import type { SecondOpinion } from "../near/second-opinion.js";
import { printable } from "../printable.js";
import { type CallOptions, limit, type RpcClient, type RpcOptions } from "../rpc/rpc-client.js";
import { duration, milliseconds, text } from "../wire.js";
import { type ConsumeOutcome, type ConsumeQuery, consumeMany } from "./batch.js";
import { type Cost, costsToWire } from "./cost.js";
import {
  type CheckedCredential,
  checkedCredential,
  type LimitCredential,
  principalFor,
} from "./credential.js";
import { LocalLimiter, type LocalLimiterOptions } from "./local-limiter.js";
import { type Consumption, deniedOutcome, type LimitOutcome, outcomeFromWire } from "./outcome.js";
import {
  Reservation,
  type ReservationState,
  type ReserveOutcome,
  type Settlement,
  settlementFromWire,
  stateFromWire,
} from "./reservation.js";
import { type LimitState, limitStateFromWire } from "./state.js";

/** Options of `consume`. */
export interface ConsumeOptions extends CallOptions {
  /**
   * Idempotency key: calls with the same id within 24 hours count once. 1 to 128 printable ASCII characters. Without it, a
   * call whose outcome is unknown is not repeated.
   */
  readonly consumeId?: string | undefined;
}

/** Options of `reserve`. */
export interface ReserveOptions extends CallOptions {
  /** Identifies the reservation: 1 to 128 printable ASCII characters. Default: a random id. */
  readonly reservationId?: string | undefined;
  /** Time after which the reservation ends by itself, in milliseconds: 1 second to 24 hours; default: 10 minutes. */
  readonly expiresInMs?: number | undefined;
  /** What happens then: the amounts are given back (`RELEASE`, the default), or count as used (`CHARGE`). */
  readonly onExpiry?: "RELEASE" | "CHARGE" | undefined;
}

/** Whose limits to read: a tenant's, or a key's and its tenant's. */
export type LimitStateSubject = { readonly tenantId: string } | { readonly keyId: string };

const CALL_OPTIONS = ["timeoutMs", "signal"] as const;

/** Takes amounts from the limits of tenants and keys. */
export class Limits {
  readonly #rpc: RpcClient;
  /** What the near cache says, if there is one. */
  readonly #near: SecondOpinion | undefined;

  constructor(rpc: RpcClient, near: SecondOpinion | undefined) {
    this.#rpc = rpc;
    this.#near = near;
  }

  /**
   * Validates a key or a session and takes amounts from its limits, in one decision: all amounts are taken, or none. Never
   * answered from the near cache. Without a `consumeId` it is not repeated after the service may have received it.
   */
  async consume(
    credential: LimitCredential,
    costs: readonly Cost[],
    options: ConsumeOptions = {},
  ): Promise<Consumption> {
    const { consumeId, ...rest } = checks.options("options", options, ["consumeId", ...CALL_OPTIONS]);
    const query = checkedCredential("credential", credential);
    const request = create(ConsumeRequestSchema, {
      credential: query.wire,
      costs: costsToWire("costs", costs),
      consumeId: text("consumeId", consumeId ?? ""),
    });
    return await this.#decided<Consumption>(
      query,
      { ...rest, once: request.consumeId === "" },
      async (left) => {
        const reply = await this.#rpc.call(LimitService.method.consume, request, left);
        return { ...outcomeFromWire(reply), alreadyConsumed: reply.alreadyConsumed };
      },
      (denied) => ({ ...denied, alreadyConsumed: false }),
    );
  }

  /**
   * Makes 1 to 1,000 decisions in one call. The outcomes are in the order of the requests. A request that cannot be decided
   * has an error as its outcome. The call is repeated only if each request has a `consumeId`.
   */
  consumeMany(requests: readonly ConsumeQuery[], options: CallOptions = {}): Promise<ConsumeOutcome[]> {
    return consumeMany(this.#rpc, this.#near, requests, options);
  }

  /**
   * Validates a key or a session and sets amounts aside whose actual value is known only later. Settle the reservation with
   * the actual amounts, and use `await using` or `release`, so that a failure cancels it.
   */
  async reserve(
    credential: LimitCredential,
    costs: readonly Cost[],
    options: ReserveOptions = {},
  ): Promise<ReserveOutcome> {
    const known = ["reservationId", "expiresInMs", "onExpiry", ...CALL_OPTIONS] as const;
    const {
      reservationId = randomUUID(),
      expiresInMs,
      onExpiry = "RELEASE",
      ...rest
    } = checks.options("options", options, known);
    if (onExpiry !== "RELEASE" && onExpiry !== "CHARGE")
      throw new TypeError('onExpiry must be "RELEASE" or "CHARGE"');
    const query = checkedCredential("credential", credential);
    const request = create(ReserveRequestSchema, {
      credential: query.wire,
      costs: costsToWire("costs", costs),
      reservationId: text("reservationId", reservationId),
      ...(expiresInMs !== undefined && { expiresIn: duration("expiresInMs", expiresInMs) }),
      onExpiry: ReservationExpiry[onExpiry],
    });
    return await this.#decided<ReserveOutcome>(
      query,
      rest,
      async (left) => {
        const reply = await this.#rpc.call(LimitService.method.reserve, request, left);
        const outcome = outcomeFromWire(reply);
        const { alreadyReserved } = reply;
        if (!outcome.allowed) return { ...outcome, reservation: undefined, alreadyReserved };
        const reservation = new Reservation(reservationId, milliseconds(reply.expiresIn), this);
        return { ...outcome, reservation, alreadyReserved };
      },
      (denied, outcome) => {
        void outcome?.reservation?.release();
        return { ...denied, reservation: undefined, alreadyReserved: false };
      },
    );
  }

  /**
   * Replaces the reserved amounts with the actual ones, from 0. A metric that is missing counts as reserved. The first call
   * decides. Fails with the code `NOT_FOUND` if the reservation does not exist.
   */
  async settle(
    reservationId: string,
    actual: readonly Cost[],
    options: CallOptions = {},
  ): Promise<Settlement> {
    checks.options("options", options, CALL_OPTIONS);
    const request = create(SettleRequestSchema, {
      reservationId: text("reservationId", reservationId),
      actual: costsToWire("actual", actual),
    });
    return settlementFromWire(await this.#rpc.call(LimitService.method.settle, request, options));
  }

  /**
   * Gives all reserved amounts back. Idempotent. Fails with the code `NOT_FOUND` if the reservation does not exist, and with
   * `FAILED_PRECONDITION` if it was settled.
   */
  async cancel(reservationId: string, options: CallOptions = {}): Promise<ReservationState> {
    checks.options("options", options, CALL_OPTIONS);
    const request = create(CancelRequestSchema, { reservationId: text("reservationId", reservationId) });
    return stateFromWire((await this.#rpc.call(LimitService.method.cancel, request, options)).state);
  }

  /**
   * Reads the limits of a tenant or a key and what is used of them, by name. Fails with the code `NOT_FOUND` if it does not
   * exist.
   */
  async state(of: LimitStateSubject, options: CallOptions = {}): Promise<LimitState[]> {
    checks.options("options", options, CALL_OPTIONS);
    const { tenantId, keyId }: { readonly tenantId?: string; readonly keyId?: string } = of;
    if ((tenantId === undefined) === (keyId === undefined))
      throw new TypeError("the limits must be those of { tenantId } or { keyId }");
    const subject =
      tenantId === undefined
        ? { case: "keyId" as const, value: text("keyId", keyId ?? "") }
        : { case: "tenantId" as const, value: text("tenantId", tenantId) };
    const request = create(GetLimitStateRequestSchema, { subject });
    const { limits } = await this.#rpc.call(LimitService.method.getLimitState, request, options);
    return limits.map(limitStateFromWire).filter((state) => state !== undefined);
  }

  /**
   * Returns a limiter of one metric that decides most requests without a call. Create one per process and metric, and close
   * it before the client. Throws a `TypeError` if the client has no near cache.
   */
  local(options: LocalLimiterOptions): LocalLimiter {
    const near = this.#near;
    if (near === undefined)
      throw new TypeError("a local limiter needs the near cache: create the client with nearCache");
    return new LocalLimiter(
      this,
      (credential, limits) => near.validate(credential, limits),
      this.#rpc,
      options,
    );
  }

  /** Makes a decision that is no weaker than what the near cache knows about the credential. */
  async #decided<O extends LimitOutcome>(
    query: CheckedCredential,
    { timeoutMs, ...options }: RpcOptions,
    ask: (left: RpcOptions) => Promise<O>,
    denied: (outcome: LimitOutcome, replaced?: O) => O,
  ): Promise<O> {
    this.#rpc.assertOpen();
    const wholeMs = limit(timeoutMs, this.#rpc.timeoutMs);
    if (query.malformed !== undefined) return printable(denied(deniedOutcome(query.malformed)));
    const end = this.#rpc.clock.monotonic() + wholeMs;
    const start = this.#near?.requestStart();
    const outcome = await ask({ ...options, timeoutMs: wholeMs });
    if (this.#near !== undefined && start !== undefined && outcome.validation.valid) {
      const leftMs = Math.max(1, end - this.#rpc.clock.monotonic());
      const denial = await this.#near.denial(query, outcome.validation, start, leftMs);
      if (denial !== undefined) return printable(denied(deniedOutcome(denial), outcome));
    }
    if (!outcome.allowed) return printable(outcome);
    return printable({ ...outcome, principal: principalFor(query, outcome.validation) });
  }
}
