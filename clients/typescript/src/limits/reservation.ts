import { TenantAuthError } from "../error.js";
import { type SettleResponse, ReservationState as WireState } from "../gen/tenantauth/v1/limit_pb.js";
import type { CallOptions } from "../rpc/rpc-client.js";
import { warn } from "../warning.js";
import type { Cost } from "./cost.js";
import type { LimitOutcome } from "./outcome.js";

/** The state of a reservation. */
export type ReservationState = "HELD" | "SETTLED" | "CANCELLED" | "EXPIRED" | "UNRECOGNIZED";

const STATES: Readonly<Record<number, ReservationState>> = {
  [WireState.HELD]: "HELD",
  [WireState.SETTLED]: "SETTLED",
  [WireState.CANCELLED]: "CANCELLED",
  [WireState.EXPIRED]: "EXPIRED",
};

/** The result for one limit of a reservation. Amounts are exact up to 2^53. */
export interface SettledLimit {
  /** The name of the limit. */
  readonly name: string;
  /** The metric. */
  readonly metric: string;
  /** The amount that was reserved. */
  readonly reserved: number;
  /** The amount that counts now. */
  readonly charged: number;
  /** The part of the actual amount for which the limit had nothing left. */
  readonly exceededBy: number;
}

/** The result of settling. */
export interface Settlement {
  /** `SETTLED`, or `CANCELLED` if it was cancelled before. */
  readonly state: ReservationState;
  /** One entry per limit of the reservation. */
  readonly limits: readonly SettledLimit[];
  /** Whether an earlier call had settled it. Then `limits` is the result of that call. */
  readonly alreadySettled: boolean;
}

/** The outcome of a reservation. */
export interface ReserveOutcome extends LimitOutcome {
  /** The reservation, if everything is set aside. */
  readonly reservation: Reservation | undefined;
  /** Whether an earlier call with this `reservationId` had reserved the amounts. Then `limits` is empty. */
  readonly alreadyReserved: boolean;
}

/** The calls that end a reservation. */
export interface ReservationCalls {
  settle(reservationId: string, actual: readonly Cost[], options?: CallOptions): Promise<Settlement>;
  cancel(reservationId: string, options?: CallOptions): Promise<ReservationState>;
}

/**
 * Amounts that are set aside until they are settled or cancelled, or until the reservation expires. With `await using`, or
 * with `release` in a `finally` block, it is cancelled if the code that uses it fails.
 */
export class Reservation {
  /** The id, to settle or cancel it elsewhere. */
  readonly id: string;
  /** Time until the reservation ends by itself, in milliseconds, counted from when it was requested. */
  readonly expiresInMs: number;
  readonly #calls: ReservationCalls;
  #isOver = false;

  constructor(id: string, expiresInMs: number, calls: ReservationCalls) {
    this.id = id;
    this.expiresInMs = expiresInMs;
    this.#calls = calls;
  }

  /**
   * Replaces the reserved amounts with the actual ones. A metric that is missing counts as reserved. Safe to repeat: the
   * first call decides.
   */
  async settle(actual: readonly Cost[], options?: CallOptions): Promise<Settlement> {
    // Once the actual amounts are known, a release must not give them back, even if they could not be sent.
    this.#isOver = true;
    try {
      return await this.#calls.settle(this.id, actual, options);
    } catch (error) {
      if (isRefused(error)) this.#isOver = false;
      throw error;
    }
  }

  /** Gives all reserved amounts back. Safe to repeat. */
  async cancel(options?: CallOptions): Promise<ReservationState> {
    const state = await this.#calls.cancel(this.id, options);
    this.#isOver = true;
    return state;
  }

  /**
   * Cancels the reservation unless it was settled or cancelled. Never rejects: if it cannot be cancelled, it ends at its
   * expiry, and a process warning says so. After a failed `settle` it waits for another one, or for its expiry.
   */
  async release(): Promise<void> {
    if (this.#isOver) return;
    try {
      await this.cancel();
    } catch (error) {
      const reason = error instanceof TenantAuthError ? error.message : "an unknown error";
      warn(`reservation ${this.id} could not be cancelled and ends at its expiry: ${reason}`);
    }
  }

  /** Same as `release`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** Whether the actual amounts were invalid, so that nothing is settled. */
function isRefused(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof TenantAuthError && error.kind === "invalid");
}

export function stateFromWire(state: WireState): ReservationState {
  return STATES[state] ?? "UNRECOGNIZED";
}

export function settlementFromWire(wire: SettleResponse): Settlement {
  const limits = wire.limits.map(({ name, metric, reserved, charged, exceededBy }) => {
    const amounts = { reserved: Number(reserved), charged: Number(charged), exceededBy: Number(exceededBy) };
    return { name, metric, ...amounts };
  });
  return { state: stateFromWire(wire.state), limits, alreadySettled: wire.alreadySettled };
}
