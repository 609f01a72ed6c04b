import { create } from "@bufbuild/protobuf";
import * as checks from "./checks.js";
import { invalidField, TenantAuthError } from "./error.js";
import {
  BatchValidateKeysRequestSchema,
  type BatchValidateKeysResult,
  type ValidateKeyRequest,
  ValidateKeyRequestSchema,
  ValidationService,
} from "./gen/tenantauth/v1/validation_pb.js";
import type { Caller, CallOptions } from "./rpc/caller.js";
import { errorFromItem } from "./rpc/details.js";
import { type Validation, validationFromWire } from "./validation.js";
import { text } from "./wire.js";

/** One key of several. */
export interface KeyQuestion {
  readonly key: string;
  readonly scopes?: readonly string[];
}

/** One key's outcome among several: a decision, or why there is none. */
export type KeyOutcome = Validation | TenantAuthError;

/** The service takes no more in one call. */
const MOST_KEYS = 1000;
/** Far beyond any key, and short enough for a thousand of them to fit into a call. */
const LONGEST_KEY_BYTES = 512;

/** Asks about several keys at once. What no call can carry fails alone, and is not sent. */
export async function validateKeys(
  caller: Caller,
  keys: readonly (string | KeyQuestion)[],
  options: CallOptions,
): Promise<KeyOutcome[]> {
  caller.assertOpen();
  checks.options("options", options, ["timeoutMs", "signal"]);
  if (!Array.isArray(keys)) throw new TypeError("keys must be a list");
  if (keys.length > MOST_KEYS)
    throw invalidField("requests", `must be at most ${MOST_KEYS}: ask in several calls`);
  const questions = keys.map(question);
  const requests = questions.flatMap((one) => (one instanceof TenantAuthError ? [] : [one]));
  // Of no key at all it is the service's to say that it is none.
  const asks = requests.length > 0 || keys.length === 0;
  const results = asks ? await ask(caller, requests, options) : [];
  let next = 0;
  return questions.map((one) => (one instanceof TenantAuthError ? one : outcome(results[next++])));
}

async function ask(
  caller: Caller,
  requests: ValidateKeyRequest[],
  options: CallOptions,
): Promise<readonly BatchValidateKeysResult[]> {
  const request = create(BatchValidateKeysRequestSchema, { requests });
  const { results } = await caller.call(ValidationService.method.batchValidateKeys, request, options);
  if (results.length === requests.length) return results;
  throw new TenantAuthError("INTERNAL", `${requests.length} keys were sent and ${results.length} answered`);
}

function question(given: string | KeyQuestion, at: number): ValidateKeyRequest | TenantAuthError {
  const asked = typeof given === "string" ? { key: given } : given;
  const { key, scopes = [] }: KeyQuestion = checks.options(`keys[${at}]`, asked, ["key", "scopes"]);
  const requiredScopes = [...checks.texts("scopes", scopes)];
  if (typeof key === "string" && !key.isWellFormed())
    return invalidField("key", "must be Unicode without half characters");
  const odd = requiredScopes.findIndex((scope) => !scope.isWellFormed());
  if (odd !== -1) return invalidField(`required_scopes[${odd}]`, "must be Unicode without half characters");
  const bytes = Buffer.byteLength(text("key", key));
  if (bytes <= LONGEST_KEY_BYTES) return create(ValidateKeyRequestSchema, { key, requiredScopes });
  return invalidField("key", `has ${bytes} bytes; at most ${LONGEST_KEY_BYTES} are allowed`);
}

function outcome(result: BatchValidateKeysResult | undefined): KeyOutcome {
  if (result?.result.case === "response") return validationFromWire(result.result.value);
  if (result?.result.case === "error") return errorFromItem(result.result.value);
  return new TenantAuthError("INTERNAL", "the service answered neither a decision nor an error");
}

/** Whether the service need not be asked: it would refuse the message, which looks as if it had too much to do. */
export function isFarTooLong(key: string): boolean {
  return Buffer.byteLength(key) > LONGEST_KEY_BYTES;
}
