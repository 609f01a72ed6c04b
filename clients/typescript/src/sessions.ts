import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { checkedClientAddress } from "./address.js";
import * as checks from "./checks.js";
import {
  BindSessionRequestSchema,
  ListSessionsRequestSchema,
  SessionExpiry,
  SessionService,
  UnbindSessionRequestSchema,
  type Session as WireSession,
} from "./gen/tenantauth/v1/session_pb.js";
import { pageSize, pages } from "./pages.js";
import type { CallOptions, RpcClient } from "./rpc/rpc-client.js";
import { type Verdict, verdictFromWire } from "./verdict.js";
import { duration, text } from "./wire.js";

/** A session, bound to a tenant by the key that opened it. */
export interface Session {
  /** The session id, as used by the caller's protocol. */
  readonly sessionId: string;
  /** Id of the tenant that the session is bound to. */
  readonly tenantId: string;
  /** Public id of the key that opened the session. */
  readonly keyId: string;
  /** Time at which the session was bound. */
  readonly createdAt: Date | undefined;
  /** Time at which the session expires. */
  readonly expiresAt: Date | undefined;
  /** Whether each validation extends the session. */
  readonly sliding: boolean;
  /** The attributes that were attached when the session was bound. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** Options of `bind`. */
export interface BindSession extends CallOptions {
  /** The session id, as used by the caller's protocol: 1 to 1,024 visible ASCII characters. */
  readonly sessionId: string;
  /** The key that the customer presented. */
  readonly key: string;
  /** Lifetime of the session, in milliseconds. */
  readonly ttlMs: number;
  /** Whether the lifetime counts from the last validation instead of from the binding. */
  readonly sliding?: boolean;
  /** Attributes to return with each validation: at most 16 entries and 2 KiB in total. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** The customer's IPv4 or IPv6 address, as in `validateKey`. */
  readonly clientAddress?: string | undefined;
}

/** The result of binding a session. */
export interface Binding {
  /** `VALID` if bound, `TENANT_MISMATCH` if it belongs to another tenant, otherwise the verdict on the key. */
  readonly verdict: Verdict;
  /** The session, if the verdict is `VALID`. */
  readonly session: Session | undefined;
  /** Whether the session was already bound before this call. */
  readonly alreadyBound: boolean;
}

/** Options of `list`. */
export interface ListSessions extends CallOptions {
  /** Page size; default: chosen by the service. */
  readonly pageSize?: number;
}

/** Binds sessions to tenants. */
export class Sessions {
  readonly #rpc: RpcClient;

  constructor(rpc: RpcClient) {
    this.#rpc = rpc;
  }

  /** Binds a session to the tenant of a key. Idempotent; never moves a session to another tenant. */
  async bind(options: BindSession): Promise<Binding> {
    checks.options("options", options, BIND_OPTIONS);
    const request = create(BindSessionRequestSchema, {
      sessionId: text("sessionId", options.sessionId),
      key: text("key", options.key),
      ttl: duration("ttlMs", options.ttlMs),
      expiry: checks.flag("sliding", options.sliding ?? false) ? SessionExpiry.SLIDING : SessionExpiry.FIXED,
      attributes: attributes(options.attributes),
      clientAddress: checkedClientAddress(options.clientAddress).text,
    });
    const reply = await this.#rpc.call(SessionService.method.bindSession, request, options);
    const session = reply.session === undefined ? undefined : sessionFromWire(reply.session);
    return { verdict: verdictFromWire(reply.verdict), session, alreadyBound: reply.alreadyBound };
  }

  /** Ends a session. Returns whether it was bound before this call. */
  async unbind(sessionId: string, tenantId: string, options?: CallOptions): Promise<boolean> {
    const ids = { sessionId: text("sessionId", sessionId), tenantId: text("tenantId", tenantId) };
    const request = create(UnbindSessionRequestSchema, ids);
    return (await this.#rpc.call(SessionService.method.unbindSession, request, options)).wasBound;
  }

  /** Iterates over a tenant's sessions, newest first, page by page. */
  list(tenantId: string, options: ListSessions = {}): AsyncIterable<Session> {
    const asked = { tenantId: text("tenantId", tenantId), pageSize: pageSize(options) };
    return pages(async (pageToken) => {
      const request = create(ListSessionsRequestSchema, { ...asked, pageToken });
      const page = await this.#rpc.call(SessionService.method.listSessions, request, options);
      return { items: page.sessions.map(sessionFromWire), nextPageToken: page.nextPageToken };
    });
  }
}

const BIND_OPTIONS = [
  "sessionId",
  "key",
  "ttlMs",
  "sliding",
  "attributes",
  "clientAddress",
  "timeoutMs",
  "signal",
] as const satisfies (keyof BindSession)[];

function attributes(given: Readonly<Record<string, string>> = {}): Record<string, string> {
  if (typeof given !== "object" || given === null)
    throw new TypeError("attributes must be an object of texts");
  return Object.fromEntries(
    Object.entries(given).map(([name, value]) => [
      text("attributes", name),
      text(`attributes.${name}`, value),
    ]),
  );
}

function sessionFromWire(wire: WireSession): Session {
  return {
    sessionId: wire.sessionId,
    tenantId: wire.tenantId,
    keyId: wire.keyId,
    createdAt: date(wire.createdAt),
    expiresAt: date(wire.expiresAt),
    sliding: wire.expiry === SessionExpiry.SLIDING,
    attributes: { ...wire.attributes },
  };
}

function date(wire: Timestamp | undefined): Date | undefined {
  return wire === undefined ? undefined : timestampDate(wire);
}
