import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type ClientAddress, parseClientAddress } from "../address.js";
import { isOverMaxLength, type KeyQuery } from "../batch.js";
import * as checks from "../checks.js";
import { invalidField, TenantAuthError } from "../error.js";
import type { LimitCredentialSchema } from "../gen/tenantauth/v1/limit_pb.js";
import {
  ValidateKeyResponseSchema,
  ValidateSessionResponseSchema,
} from "../gen/tenantauth/v1/validation_pb.js";
import { Verdict as WireVerdict } from "../gen/tenantauth/v1/verdict_pb.js";
import { keepCredential } from "../guard/credential.js";
import { type Principal, principalOf } from "../principal.js";
import { MAX_SESSION_ID_LENGTH } from "../session-id.js";
import {
  type Conditions,
  type SessionValidation,
  sessionValidationFromWire,
  type Validation,
  validationFromWire,
} from "../validation.js";

/** A session, with the scopes that its key must hold, and the customer's address. */
export interface SessionQuery {
  /** The session id. Limits are those of the key that opened the session. */
  readonly sessionId: string;
  /** The key presented with the session, if any. */
  readonly key?: string | undefined;
  /** Scopes that the key must hold, all of them. */
  readonly scopes?: readonly string[];
  /** The customer's IPv4 or IPv6 address, as in `validateKey`. */
  readonly clientAddress?: string | undefined;
}

/** Who takes something from its limits: a key, or a session. A text is a key. */
export type LimitCredential = string | KeyQuery | SessionQuery;

/** A credential whose values are checked. */
export interface CheckedCredential extends Conditions {
  readonly key: string | undefined;
  readonly sessionId: string | undefined;
  readonly clientAddress: string;
  readonly wire: MessageInitShape<typeof LimitCredentialSchema>;
  /** The answer for a key that is too long to send. */
  readonly malformed: Validation | SessionValidation | undefined;
}

const KEY_QUERY = ["key", "scopes", "clientAddress"] as const;
const SESSION_QUERY = ["sessionId", ...KEY_QUERY] as const;

/**
 * Checks a credential. Throws a `TypeError` for values of a wrong type, and a `TenantAuthError` of the kind `invalid` for
 * texts that may come from the customer.
 */
export function checkedCredential(name: string, given: LimitCredential): CheckedCredential {
  const query = typeof given === "string" ? { key: given } : given;
  const isSession = typeof query === "object" && query !== null && "sessionId" in query;
  if (isSession) checks.options(name, query, SESSION_QUERY);
  else checks.options(name, query, KEY_QUERY);
  const { scopes: required = [], clientAddress: presented } = query;
  // Paths of fields are those of the service.
  const path = isSession ? "credential.session" : "credential.key";
  const scopes = checks.texts(`${name}.scopes`, required);
  for (const [at, scope] of scopes.entries())
    wellFormed(`${name}.scopes`, `${path}.required_scopes[${at}]`, scope);
  const { text: clientAddress, address } = addressOf(path, presented);
  const shared = { requiredScopes: [...scopes], clientAddress };
  const checked = { scopes, address, clientAddress };
  if (!isSession) {
    const key = wellFormed(`${name}.key`, `${path}.key`, query.key as string);
    const wire = { credential: { case: "key" as const, value: { key, ...shared } } };
    const malformed = isOverMaxLength(key)
      ? validationFromWire(create(ValidateKeyResponseSchema, MALFORMED))
      : undefined;
    return { ...checked, key, sessionId: undefined, wire, malformed };
  }
  const sessionId = wellFormed(`${name}.sessionId`, `${path}.session_id`, (query as SessionQuery).sessionId);
  if (sessionId.length > MAX_SESSION_ID_LENGTH)
    throw invalidField(`${path}.session_id`, `must have at most ${MAX_SESSION_ID_LENGTH} characters`);
  const key = wellFormed(`${name}.key`, `${path}.key`, query.key ?? "");
  const wire = { credential: { case: "session" as const, value: { sessionId, key, ...shared } } };
  const malformed = isOverMaxLength(key)
    ? sessionValidationFromWire(create(ValidateSessionResponseSchema, MALFORMED))
    : undefined;
  return { ...checked, key: query.key, sessionId, wire, malformed };
}

/** Returns the owner of a valid credential, which can be validated again by it. */
export function principalFor(query: CheckedCredential, validation: Validation): Principal {
  const { key, sessionId, clientAddress: address, scopes } = query;
  const clientAddress = address === "" ? undefined : address;
  const credential = sessionId === undefined ? { key } : { session: { id: sessionId, key } };
  return keepCredential(principalOf(validation), { ...credential, clientAddress, scopes });
}

const MALFORMED = { verdict: WireVerdict.MALFORMED };

function addressOf(path: string, presented: string | undefined): ClientAddress {
  const parsed = parseClientAddress(presented);
  if (!(parsed instanceof TenantAuthError)) return parsed;
  throw invalidField(`${path}.client_address`, parsed.violations[0]?.description ?? parsed.message);
}

function wellFormed(name: string, field: string, value: string): string {
  if (typeof value !== "string") throw new TypeError(`${name} must be a string`);
  if (!value.isWellFormed()) throw invalidField(field, "must be well-formed Unicode");
  return value;
}
