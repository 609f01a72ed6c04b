import { create } from "@bufbuild/protobuf";
import { parseClientAddress } from "./address.js";
import * as checks from "./checks.js";
import { invalidField, TenantAuthError } from "./error.js";
import {
  BatchValidateKeysRequestSchema,
  type BatchValidateKeysResult,
  type ValidateKeyRequest,
  ValidateKeyRequestSchema,
  ValidationService,
} from "./gen/tenantauth/v1/validation_pb.js";
import { errorFromItem } from "./rpc/details.js";
import type { CallOptions, RpcClient } from "./rpc/rpc-client.js";
import { type Validation, validationFromWire } from "./validation.js";
import { text } from "./wire.js";

/** One key of a batch, with its own scopes and address. */
export interface KeyQuery {
  readonly key: string;
  readonly scopes?: readonly string[];
  /** The customer's IPv4 or IPv6 address, as in `validateKey`. */
  readonly clientAddress?: string | undefined;
}

/** The result for one key of a batch: a validation or an error. */
export type KeyOutcome = Validation | TenantAuthError;

/** The service's maximum number of keys per call. */
const MAX_KEYS = 1000;
/** Far longer than any key, and short enough that a batch of 1,000 keys fits into one message. */
const MAX_KEY_BYTES = 512;

/**
 * Validates several keys in one call. A key that cannot be sent gets an error of its own and is left out of the call.
 */
export async function validateKeys(
  rpc: RpcClient,
  keys: readonly (string | KeyQuery)[],
  options: CallOptions,
): Promise<KeyOutcome[]> {
  rpc.assertOpen();
  checks.options("options", options, ["timeoutMs", "signal"]);
  if (!Array.isArray(keys)) throw new TypeError("keys must be a list");
  if (keys.length > MAX_KEYS)
    throw invalidField("requests", `must have at most ${MAX_KEYS} entries: split it into several calls`);
  const queries = keys.map(query);
  const requests = queries.flatMap((one) => (one instanceof TenantAuthError ? [] : [one]));
  // An empty list is sent too, so that the service returns its usual error.
  const asks = requests.length > 0 || keys.length === 0;
  const results = asks ? await ask(rpc, requests, options) : [];
  let next = 0;
  return queries.map((one) => (one instanceof TenantAuthError ? one : outcome(results[next++])));
}

async function ask(
  rpc: RpcClient,
  requests: ValidateKeyRequest[],
  options: CallOptions,
): Promise<readonly BatchValidateKeysResult[]> {
  const request = create(BatchValidateKeysRequestSchema, { requests });
  const { results } = await rpc.call(ValidationService.method.batchValidateKeys, request, options);
  if (results.length === requests.length) return results;
  throw new TenantAuthError(
    "INTERNAL",
    `the response has ${results.length} results for ${requests.length} keys`,
  );
}

function query(given: string | KeyQuery, at: number): ValidateKeyRequest | TenantAuthError {
  const asked = typeof given === "string" ? { key: given } : given;
  const known = ["key", "scopes", "clientAddress"] as const;
  const { key, scopes = [], clientAddress }: KeyQuery = checks.options(`keys[${at}]`, asked, known);
  const requiredScopes = [...checks.texts("scopes", scopes)];
  if (typeof key === "string" && !key.isWellFormed())
    return invalidField("key", "must be well-formed Unicode");
  const odd = requiredScopes.findIndex((scope) => !scope.isWellFormed());
  if (odd !== -1) return invalidField(`required_scopes[${odd}]`, "must be well-formed Unicode");
  const address = parseClientAddress(clientAddress);
  if (address instanceof TenantAuthError) return address;
  const bytes = Buffer.byteLength(text("key", key));
  if (bytes <= MAX_KEY_BYTES)
    return create(ValidateKeyRequestSchema, { key, requiredScopes, clientAddress: address.text });
  return invalidField("key", `has ${bytes} bytes; at most ${MAX_KEY_BYTES} are allowed`);
}

function outcome(result: BatchValidateKeysResult | undefined): KeyOutcome {
  if (result?.result.case === "response") return validationFromWire(result.result.value);
  if (result?.result.case === "error") return errorFromItem(result.result.value);
  return new TenantAuthError("INTERNAL", "the response contains neither a validation nor an error for a key");
}

/**
 * Whether a key is too long to send. The service would reject the message with RESOURCE_EXHAUSTED, which looks like
 * overload.
 */
export function isOverMaxLength(key: string): boolean {
  return Buffer.byteLength(key) > MAX_KEY_BYTES;
}
