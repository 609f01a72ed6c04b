import { randomBytes } from "node:crypto";
import * as checks from "../checks.js";
import type { Client } from "../client.js";
import { DeniedError } from "../denied.js";
import { type Credential, credentialOf } from "../guard/credential.js";
import { isCausedBy } from "../http/admit.js";
import type { Principal } from "../principal.js";
import { isAboutCustomer } from "./session-denial.js";

/** Handles are bound under session ids with this prefix, which no client may present as a session. */
export const HANDLE_PREFIX = "mcp-handle:";

/** The parts of a `Client` that handles need. */
export type McpHandleClient = Pick<Client, "validateSession" | "sessions">;

/** Options of `McpHandles`. */
export interface McpHandlesOptions {
  /** Lifetime of a handle after its last use, at least a minute; default: an hour. */
  readonly ttlMs?: number;
  /** Timeout of a call, in milliseconds; default: the client's timeout. */
  readonly timeoutMs?: number;
}

/** A handle of the customer of a request. */
export interface McpHandle {
  readonly handle: string;
  readonly kind: string;
  /** Id of the tenant that owns the handle. */
  readonly tenantId: string;
  /** Time at which the handle expires if it is not used. */
  readonly expiresAt: Date | undefined;
}

/**
 * The handle does not exist for this customer: it is malformed, unknown, ended, of another kind, or of another tenant.
 * The code is that of the JSON-RPC error with which a tool responds.
 */
export class UnknownHandleError extends Error {
  readonly code = -32602;

  constructor() {
    super("unknown handle");
    this.name = "UnknownHandleError";
  }
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const RANDOM_BYTES = 32;
const KIND = /^[a-z][a-z0-9_-]{0,31}$/;
const RANDOM = /^[A-Za-z0-9_-]{43}$/;

/**
 * Names state on the server that a tool's arguments refer to, for revisions without sessions. A handle belongs to the
 * tenant of the key with which it was minted, and never authenticates: each use needs the key of the current request.
 */
export class McpHandles {
  readonly #client: McpHandleClient;
  readonly #ttlMs: number;
  readonly #timeoutMs: number | undefined;

  constructor(client: McpHandleClient, options: McpHandlesOptions = {}) {
    checks.withMethod("client", client, "validateSession");
    const { ttlMs = HOUR_MS, timeoutMs } = checks.options("options", options, ["ttlMs", "timeoutMs"]);
    if (checks.milliseconds("ttlMs", ttlMs) < MINUTE_MS)
      throw new TypeError(`ttlMs must be at least ${MINUTE_MS} milliseconds, not ${ttlMs}`);
    if (timeoutMs !== undefined) checks.milliseconds("timeoutMs", timeoutMs);
    this.#client = client;
    this.#ttlMs = ttlMs;
    this.#timeoutMs = timeoutMs;
  }

  /** Returns a new handle. Throws `DeniedError` for a denial, `TenantAuthError` without a decision. */
  async mint(principal: Principal, kind: string): Promise<string> {
    checkedKind(kind);
    const { key, clientAddress } = keyOf(principal);
    const handle = `${kind}_${randomBytes(RANDOM_BYTES).toString("base64url")}`;
    const { verdict } = await this.#client.sessions.bind({
      sessionId: `${HANDLE_PREFIX}${handle}`,
      key,
      ttlMs: this.#ttlMs,
      sliding: true,
      attributes: { kind },
      clientAddress,
      timeoutMs: this.#timeoutMs,
    });
    if (verdict === "VALID") return handle;
    throw new DeniedError({ verdict, missingScopes: [], source: "UNSPECIFIED", ageMs: 0, revision: 0n });
  }

  /**
   * Returns a handle of the customer. Throws `UnknownHandleError` for any other handle, `DeniedError` if the customer is
   * denied, and `TenantAuthError` without a decision.
   */
  async require(principal: Principal, handle: string, kind: string): Promise<McpHandle> {
    checkedKind(kind);
    const { key, clientAddress } = keyOf(principal);
    if (!isHandle(handle, kind)) throw new UnknownHandleError();
    const session = await this.#client
      .validateSession(`${HANDLE_PREFIX}${handle}`, { key, clientAddress, timeoutMs: this.#timeoutMs })
      .catch((error: unknown) => {
        throw isCausedBy(error, "session_id") ? new UnknownHandleError() : error;
      });
    if (isAboutCustomer(session.verdict)) throw new DeniedError(session);
    const { tenantId, attributes, expiresAt } = session;
    if (!session.valid || tenantId !== principal.tenantId || attributes.kind !== kind)
      throw new UnknownHandleError();
    return { handle, kind, tenantId, expiresAt };
  }

  /** Ends a handle of the customer. Returns whether it existed. Throws `TenantAuthError` without a decision. */
  async release(principal: Principal, handle: string): Promise<boolean> {
    // Nothing else is ever minted, and the service would reject it.
    if (typeof handle !== "string" || !/^[a-z][a-z0-9_-]*_[A-Za-z0-9_-]{43}$/.test(handle)) return false;
    const id = `${HANDLE_PREFIX}${handle}`;
    return await this.#client.sessions.unbind(id, principal.tenantId, { timeoutMs: this.#timeoutMs });
  }
}

function checkedKind(kind: string): void {
  if (typeof kind === "string" && KIND.test(kind)) return;
  throw new TypeError(
    'kind must be a text such as "cart": a lower-case letter, then up to 31 of a-z 0-9 _ -',
  );
}

function isHandle(handle: unknown, kind: string): boolean {
  if (typeof handle !== "string" || !handle.startsWith(`${kind}_`)) return false;
  return RANDOM.test(handle.slice(kind.length + 1));
}

function keyOf(principal: Principal): Credential & { readonly key: string } {
  const credential = credentialOf(principal);
  const key = credential.key ?? credential.session?.key;
  if (key !== undefined) return { ...credential, key };
  throw new TypeError("the principal was validated without a key, and handles need one");
}
