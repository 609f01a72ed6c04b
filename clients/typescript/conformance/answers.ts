import { type Client, type SessionValidation, TenantAuthError, type Validation } from "@tenant-auth/client";

/** Runs a command. */
export type Operation<C> = (client: Client, command: C) => Promise<object>;

/** The answer of a call that failed, or of a key of a batch that was not decided. */
export function failed(error: unknown): object {
  if (!(error instanceof TenantAuthError)) return { error: "INVALID_ARGUMENT", fields: [] };
  const fields = error.violations.map(({ field }) => field);
  return {
    error: error.code,
    ...(error.reason && { reason: error.reason }),
    ...(fields.length > 0 && { fields }),
  };
}

/** The answer of a validation. */
export function decision(answer: Validation | SessionValidation): object {
  const { verdict, tenantId, plan, keyId, missingScopes, source, ageMs } = answer;
  return {
    verdict,
    tenant_id: tenantId,
    plan,
    key_id: keyId,
    missing_scopes: missingScopes,
    source,
    age_ms: ageMs,
    ...("presentedKeyId" in answer && {
      presented_key_id: answer.presentedKeyId,
      attributes: answer.attributes,
    }),
  };
}
