import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { codeName, type ErrorFacts, TenantAuthError } from "../error.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../gen/google/rpc/status_pb.js";
import { milliseconds } from "../wire.js";

/** A failed call's status. `encoded` is the trailer `grpc-status-details-bin`. */
export function errorFromStatus(
  code: number,
  message: string,
  encoded: Uint8Array | undefined,
  requestId: string,
): TenantAuthError {
  return new TenantAuthError(codeName(code), message, { ...facts(decoded(encoded)), requestId });
}

/** One item's status within a reply. */
export function errorFromItem(item: Status): TenantAuthError {
  return new TenantAuthError(codeName(item.code), item.message, facts(item));
}

/** Details are a help, not the answer: a proxy's garbage must not hide the status. */
function decoded(encoded: Uint8Array | undefined): Status | undefined {
  if (encoded === undefined) return undefined;
  try {
    return fromBinary(StatusSchema, encoded);
  } catch {
    return undefined;
  }
}

function facts(status: Status | undefined): ErrorFacts {
  let known: ErrorFacts = {};
  for (const detail of status?.details ?? []) {
    try {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info !== undefined) known = { ...known, reason: info.reason };
      const retry = anyUnpack(detail, RetryInfoSchema);
      if (retry?.retryDelay !== undefined) known = { ...known, retryAfterMs: milliseconds(retry.retryDelay) };
      const bad = anyUnpack(detail, BadRequestSchema);
      if (bad !== undefined) {
        const violations = bad.fieldViolations.map(({ field, description }) => ({ field, description }));
        known = { ...known, violations };
      }
    } catch {
      // As above: one unreadable detail takes nothing away from the others.
    }
  }
  return known;
}
