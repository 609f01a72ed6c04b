import { create } from "@bufbuild/protobuf";
import * as checks from "../checks.js";
import { invalidField, TenantAuthError } from "../error.js";
import {
  BatchConsumeRequestSchema,
  type BatchConsumeResult,
  type ConsumeRequest,
  ConsumeRequestSchema,
  LimitService,
} from "../gen/tenantauth/v1/limit_pb.js";
import type { RequestStart } from "../near/entry.js";
import type { SecondOpinion } from "../near/second-opinion.js";
import { printable } from "../printable.js";
import { errorFromItem } from "../rpc/details.js";
import type { CallOptions, RpcClient } from "../rpc/rpc-client.js";
import { text } from "../wire.js";
import { type Cost, costsToWire } from "./cost.js";
import {
  type CheckedCredential,
  checkedCredential,
  type LimitCredential,
  principalFor,
} from "./credential.js";
import { type Consumption, deniedOutcome, type LimitOutcome, outcomeFromWire } from "./outcome.js";

/** One request of a batch. */
export interface ConsumeQuery {
  /** Who takes it. */
  readonly credential: LimitCredential;
  /** What is taken: 1 to 16 amounts. */
  readonly costs: readonly Cost[];
  /** Idempotency key, as in `consume`. */
  readonly consumeId?: string | undefined;
}

/** The outcome of one request of a batch: a decision or an error. */
export type ConsumeOutcome = Consumption | TenantAuthError;

/** The service's maximum number of requests per call. */
const MAX_REQUESTS = 1000;

/** A request that can be sent, with its credential. */
interface Prepared {
  readonly query: CheckedCredential;
  readonly request: ConsumeRequest;
}

/** Makes several decisions in one call. A request that cannot be sent gets an outcome of its own and is left out. */
export async function consumeMany(
  rpc: RpcClient,
  near: SecondOpinion | undefined,
  given: readonly ConsumeQuery[],
  options: CallOptions,
): Promise<ConsumeOutcome[]> {
  rpc.assertOpen();
  checks.options("options", options, ["timeoutMs", "signal"]);
  if (!Array.isArray(given)) throw new TypeError("requests must be a list");
  if (given.length > MAX_REQUESTS)
    throw invalidField("requests", `must have at most ${MAX_REQUESTS} entries: split it into several calls`);
  const prepared = given.map(prepare);
  const requests = prepared.flatMap((one) => ("request" in one ? [one.request] : []));
  // An empty list is sent too, so that the service returns its usual error.
  const asks = requests.length > 0 || given.length === 0;
  const start = near?.requestStart();
  const results = asks ? await ask(rpc, requests, options) : [];
  let next = 0;
  return await Promise.all(
    prepared.map(async (one) => {
      if (!("request" in one)) return one;
      const decided = outcome(one.query, results[next++]);
      if (near === undefined || start === undefined || decided instanceof TenantAuthError) return decided;
      return await strongest(near, start, one.query, decided, rpc.timeoutMs);
    }),
  );
}

async function ask(
  rpc: RpcClient,
  requests: ConsumeRequest[],
  options: CallOptions,
): Promise<readonly BatchConsumeResult[]> {
  const once = requests.some(({ consumeId }) => consumeId === "");
  const request = create(BatchConsumeRequestSchema, { requests });
  const { results } = await rpc.call(LimitService.method.batchConsume, request, { ...options, once });
  if (results.length === requests.length) return results;
  throw new TenantAuthError(
    "INTERNAL",
    `the response has ${results.length} results for ${requests.length} requests`,
  );
}

function prepare(given: ConsumeQuery, at: number): Prepared | ConsumeOutcome {
  const name = `requests[${at}]`;
  const {
    credential,
    costs,
    consumeId = "",
  } = checks.options(name, given, ["credential", "costs", "consumeId"]);
  const wireCosts = costsToWire(`${name}.costs`, costs);
  const id = text(`${name}.consumeId`, consumeId);
  try {
    const query = checkedCredential(`${name}.credential`, credential);
    if (query.malformed !== undefined) return consumption(deniedOutcome(query.malformed), false);
    const asked = { credential: query.wire, costs: wireCosts, consumeId: id };
    return { query, request: create(ConsumeRequestSchema, asked) };
  } catch (error) {
    if (error instanceof TenantAuthError) return error;
    throw error;
  }
}

function outcome(query: CheckedCredential, result: BatchConsumeResult | undefined): ConsumeOutcome {
  if (result?.result.case === "response") {
    const { value } = result.result;
    const decided = outcomeFromWire(value);
    const principal = decided.allowed ? { principal: principalFor(query, decided.validation) } : {};
    return consumption({ ...decided, ...principal }, value.alreadyConsumed);
  }
  if (result?.result.case === "error") return errorFromItem(result.result.value);
  return new TenantAuthError(
    "INTERNAL",
    "the response contains neither a decision nor an error for a request",
  );
}

/** Returns a decision that is no weaker than what the near cache knows. */
async function strongest(
  near: SecondOpinion,
  start: RequestStart,
  query: CheckedCredential,
  decided: Consumption,
  timeoutMs: number,
): Promise<ConsumeOutcome> {
  if (!decided.validation.valid) return decided;
  try {
    const denial = await near.denial(query, decided.validation, start, timeoutMs);
    return denial === undefined ? decided : consumption(deniedOutcome(denial), decided.alreadyConsumed);
  } catch (error) {
    if (error instanceof TenantAuthError) return error;
    throw error;
  }
}

function consumption(outcome: LimitOutcome, alreadyConsumed: boolean): Consumption {
  return printable({ ...outcome, alreadyConsumed });
}
