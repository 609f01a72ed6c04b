import { DeniedError } from "./denied.js";
import type { Validation } from "./validation.js";

/** The customer of a request, as handlers need it. Safe to log. */
export interface Principal {
  /** Id of the tenant. */
  readonly tenantId: string;
  /** The tenant's display name. */
  readonly tenantName: string;
  /** The tenant's plan, a label that the service does not interpret. */
  readonly plan: string;
  /** Public id of the presented key; for a session, of the key that opened it. */
  readonly keyId: string;
  /** All scopes that the key holds. */
  readonly scopes: readonly string[];
}

/** Returns the customer of a valid answer. Throws `DeniedError` for a denial. */
export function principalOf(answer: Validation): Principal {
  if (!answer.valid) throw new DeniedError(answer);
  const { tenantId, tenantName, plan, keyId, scopes } = answer;
  return Object.freeze({ tenantId, tenantName, plan, keyId, scopes });
}
