import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../src/gen/google/rpc/error_details_pb.js";
import { Source, Verdict } from "../../src/gen/tenantauth/v1/verdict_pb.js";
import { duration } from "../../src/wire.js";
import { type Fact, Refused } from "./fake.js";

/** Options for the response for a key. */
export interface KeyAnswer {
  readonly verdict?: Verdict;
  readonly keyId?: string;
  readonly tenantId?: string;
  readonly scopes?: string[];
  readonly missingScopes?: string[];
  readonly allowedNetworks?: string[];
  readonly revision?: bigint;
  readonly cacheableForMs?: number;
  /** How long the answer may be cached while the stream is live; default: a minute. */
  readonly watchedForMs?: number;
  readonly ageMs?: number;
  readonly expiresAt?: number;
}

/** The response for a valid key; by default cacheable for five seconds. */
export function keyAnswer(said: KeyAnswer = {}) {
  return {
    verdict: said.verdict ?? Verdict.VALID,
    tenantId: said.tenantId ?? "ten_1",
    tenantName: "Acme",
    plan: "pro",
    keyId: said.keyId ?? "key_1",
    scopes: said.scopes ?? ["orders:read"],
    missingScopes: said.missingScopes ?? [],
    allowedNetworks: said.allowedNetworks ?? [],
    ...(said.expiresAt === undefined ? {} : { expiresAt: timestampFromMs(said.expiresAt) }),
    provenance: {
      source: Source.FRESH,
      age: duration("age", said.ageMs ?? 0),
      revision: said.revision ?? 10n,
      cacheableFor: duration("cacheableFor", said.cacheableForMs ?? 5000),
      cacheableWhileWatched: duration("cacheableWhileWatched", said.watchedForMs ?? 60_000),
    },
  };
}

/** The response for an unknown key. */
export function unknownKey(cacheableForMs = 1000) {
  const cacheableFor = duration("cacheableFor", cacheableForMs);
  const cacheableWhileWatched = duration("cacheableWhileWatched", 60_000);
  return {
    verdict: Verdict.UNKNOWN,
    provenance: { source: Source.NEGATIVE, revision: 10n, cacheableFor, cacheableWhileWatched },
  };
}

/** The error of an unavailable database; `retryAfterMs` is the retry delay. */
export function unavailable(retryAfterMs?: number): Refused {
  return new Refused(status.UNAVAILABLE, "the database gave no usable answer", ...details(retryAfterMs));
}

export function overloaded(retryAfterMs?: number): Refused {
  return new Refused(status.RESOURCE_EXHAUSTED, "too many requests are waiting", ...details(retryAfterMs));
}

export function invalid(...fields: readonly string[]): Refused {
  const fieldViolations = fields.map((field) => ({ field, description: "must not be empty" }));
  const bad = create(BadRequestSchema, { fieldViolations });
  return new Refused(status.INVALID_ARGUMENT, "not a request", [BadRequestSchema, bad]);
}

function details(retryAfterMs: number | undefined): Fact[] {
  const info = create(ErrorInfoSchema, { reason: "DATABASE_TIMED_OUT", domain: "tenantauth.v1" });
  if (retryAfterMs === undefined) return [[ErrorInfoSchema, info]];
  const retry = create(RetryInfoSchema, { retryDelay: duration("retryDelay", retryAfterMs) });
  return [
    [ErrorInfoSchema, info],
    [RetryInfoSchema, retry],
  ];
}
