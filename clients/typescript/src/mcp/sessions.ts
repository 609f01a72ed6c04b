import type { Client } from "../client.js";
import { isCausedBy } from "../http/admit.js";
import { denied, noSession, type Rejection, undecided } from "../http/rejection.js";
import { notify } from "../http/undecided-log.js";
import { isSessionId } from "../session-id.js";
import { HANDLE_PREFIX } from "./handles.js";
import { sessionRejection } from "./session-denial.js";

/** The key of a request, and where it came from. */
export interface Presented {
  readonly key: string;
  readonly tenantId: string;
  readonly clientAddress: string | undefined;
}

/** The parts of a `Client` that deal with sessions. */
export type SessionClient = Pick<Client, "validateSession" | "sessions">;

/** Options of the sessions of a gate. */
export interface SessionSettings {
  readonly ttlMs: number;
  readonly timeoutMs: number | undefined;
  readonly onError: (error: unknown) => void;
}

/** Binds the sessions that the application opens, and admits requests of sessions of the key's tenant. */
export class GateSessions {
  readonly #client: SessionClient;
  readonly #settings: SessionSettings;

  constructor(client: SessionClient, settings: SessionSettings) {
    this.#client = client;
    this.#settings = settings;
  }

  /** Returns the rejection of a request, unless its session belongs to the tenant of its key. */
  async rejectionOf(
    sessionId: string,
    { tenantId, clientAddress }: Presented,
  ): Promise<Rejection | undefined> {
    // A handle is bound like a session, but it never authenticates.
    if (!isSessionId(sessionId) || sessionId.startsWith(HANDLE_PREFIX)) return noSession("UNBOUND");
    const { timeoutMs, onError } = this.#settings;
    try {
      const session = await this.#client.validateSession(sessionId, { clientAddress, timeoutMs });
      if (!session.valid) return sessionRejection(session.verdict);
      return session.tenantId === tenantId ? undefined : noSession("TENANT_MISMATCH");
    } catch (error) {
      if (isCausedBy(error, "session_id")) return noSession("UNBOUND");
      notify(onError, error);
      return undecided(error);
    }
  }

  /** Binds a session that the application has opened. Returns a rejection if it cannot be bound. */
  async bind(sessionId: string, { key, clientAddress }: Presented): Promise<Rejection | undefined> {
    const { ttlMs, timeoutMs, onError } = this.#settings;
    try {
      const { verdict } = await this.#client.sessions.bind({
        sessionId,
        key,
        ttlMs,
        sliding: true,
        clientAddress,
        timeoutMs,
      });
      return verdict === "VALID" ? undefined : denied(verdict, [], {});
    } catch (error) {
      notify(onError, error);
      return undecided(error);
    }
  }

  /** Ends the binding of a session that the application has ended. Without a decision, it expires by itself. */
  async unbind(sessionId: string, { tenantId }: Presented): Promise<void> {
    const { timeoutMs, onError } = this.#settings;
    try {
      await this.#client.sessions.unbind(sessionId, tenantId, { timeoutMs });
    } catch (error) {
      notify(onError, error);
    }
  }
}
