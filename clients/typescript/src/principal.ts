import { DeniedError } from "./denied.js";
import type { Validation } from "./validation.js";

/** Who makes a request, as handlers want to know it. Safe to log. */
export interface Principal {
  /** The tenant. */
  readonly tenantId: string;
  /** The tenant's display name. */
  readonly tenantName: string;
  /** The tenant's plan, an opaque label. */
  readonly plan: string;
  /** Public id of the key that was presented; of a session, of the key that opened it. */
  readonly keyId: string;
  /** Every scope that the key holds. */
  readonly scopes: readonly string[];
}

/** Who it is. A denied answer has nobody: it throws `DeniedError`. */
export function principalOf(answer: Validation): Principal {
  if (!answer.valid) throw new DeniedError(answer);
  const { tenantId, tenantName, plan, keyId, scopes } = answer;
  return Object.freeze({ tenantId, tenantName, plan, keyId, scopes });
}
