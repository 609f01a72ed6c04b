import { create } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { AnySchema, anyUnpack } from "@bufbuild/protobuf/wkt";
import { codeName, type ErrorFacts, TenantAuthError } from "../error.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import type { Status } from "../gen/google/rpc/status_pb.js";
import { milliseconds } from "../wire.js";

/** One detail of a status, as returned by @connectrpc/connect. */
type Detail = { readonly type: string; readonly value: Uint8Array } | { readonly desc: object };

/** Converts the status of a failed call. */
export function errorFromStatus(
  code: number,
  message: string,
  details: readonly Detail[],
  requestId: string,
): TenantAuthError {
  const received = details.flatMap((detail) =>
    "type" in detail
      ? [create(AnySchema, { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value })]
      : [],
  );
  return new TenantAuthError(codeName(code), message, { ...facts(received), requestId });
}

/** Converts the status of one item of a response. */
export function errorFromItem(item: Status): TenantAuthError {
  return new TenantAuthError(codeName(item.code), item.message, facts(item.details));
}

function facts(details: readonly Any[]): ErrorFacts {
  let known: ErrorFacts = {};
  for (const detail of details) {
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
      // An unreadable detail does not affect the others.
    }
  }
  return known;
}
