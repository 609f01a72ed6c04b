import type { MessageInitShape } from "@bufbuild/protobuf";
import { DecidedBy, type LimitDecisionSchema } from "../../src/gen/tenantauth/v1/limit_pb.js";
import { Verdict } from "../../src/gen/tenantauth/v1/verdict_pb.js";
import { duration } from "../../src/wire.js";
import { type KeyAnswer, keyAnswer } from "./answers.js";

type Decision = MessageInitShape<typeof LimitDecisionSchema>;

/** What a quota of 10 requests per hour says. */
export function decision(said: Decision = {}): Decision {
  return {
    name: "hourly",
    metric: "requests",
    limit: 10n,
    remaining: 7n,
    window: duration("window", 3_600_000),
    resetAfter: duration("resetAfter", 1_800_000),
    decidedBy: DecidedBy.LEASE,
    ...said,
  };
}

/** What a limit says that is exceeded; by default a retry can succeed after 1.5 s. */
export function exceeded(said: Decision = {}): Decision {
  const retryAfter = duration("retryAfter", 1500);
  return decision({ remaining: 0n, exceeded: true, retryAfter, ...said });
}

/** The response for a key whose limits decide. */
export function limited(verdict = Verdict.VALID, limits: Decision[] = [decision()], key: KeyAnswer = {}) {
  return { verdict, validation: { case: "key" as const, value: keyAnswer(key) }, limits };
}

/** The response for a key that is not valid. */
export function invalidKey(verdict: Verdict, key: KeyAnswer = {}) {
  return limited(verdict, [], { ...key, verdict });
}

/** The response to a reservation that is admitted. */
export function reserved(expiresInMs = 600_000) {
  return { ...limited(), expiresIn: duration("expiresIn", expiresInMs) };
}
