import type { Validation } from "./validation.js";

/** Who makes a request, as handlers want to know it. Safe to log. */
export interface Principal {
  /** The tenant. */
  readonly tenantId: string;
  /** The tenant's display name. */
  readonly tenantName: string;
  /** The tenant's plan, an opaque label. */
  readonly plan: string;
  /** Public id of the key that was presented. */
  readonly keyId: string;
  /** Every scope that the key holds. */
  readonly scopes: readonly string[];
}

export function principalOf({ tenantId, tenantName, plan, keyId, scopes }: Validation): Principal {
  return Object.freeze({ tenantId, tenantName, plan, keyId, scopes });
}
