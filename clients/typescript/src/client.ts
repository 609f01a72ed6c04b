import { create } from "@bufbuild/protobuf";
import { isOverMaxLength, type KeyOutcome, type KeyQuery, validateKeys } from "./batch.js";
import { invalidField } from "./error.js";
import { AdminService } from "./gen/tenantauth/v1/admin_pb.js";
import { InfoService } from "./gen/tenantauth/v1/info_pb.js";
import { LimitService } from "./gen/tenantauth/v1/limit_pb.js";
import { SessionService } from "./gen/tenantauth/v1/session_pb.js";
import { UsageService } from "./gen/tenantauth/v1/usage_pb.js";
import {
  ValidateKeyRequestSchema,
  ValidateKeyResponseSchema,
  ValidateSessionRequestSchema,
  ValidateSessionResponseSchema,
  ValidationService,
} from "./gen/tenantauth/v1/validation_pb.js";
import { Verdict as WireVerdict } from "./gen/tenantauth/v1/verdict_pb.js";
import { WatchService } from "./gen/tenantauth/v1/watch_pb.js";
import type { Validators } from "./guard/check.js";
import { keepCredential } from "./guard/credential.js";
import { type GuardStream, guardStream } from "./guard/guard.js";
import { Guards } from "./guard/guards.js";
import { type ServerInfo, serverInfoFromWire } from "./info.js";
import { Limits } from "./limits/limits.js";
import { NearCache } from "./near/cache.js";
import { CachingValidator } from "./near/caching-validator.js";
import { Coverage } from "./near/coverage.js";
import { type Answered, uncovered } from "./near/entry.js";
import { SecondOpinion } from "./near/second-opinion.js";
import { Watcher, type WatchState } from "./near/watch.js";
import { parseEndpoints } from "./net/endpoint.js";
import { Pool } from "./net/pool.js";
import { type ClientOptions, settings } from "./options.js";
import { type Principal, principalOf } from "./principal.js";
import { PrincipalVerifier, type PrincipalVerifierOptions } from "./principal-token/verifier.js";
import { printable } from "./printable.js";
import { type RecorderOptions, UsageRecorder } from "./recorder.js";
import { CallerTokens } from "./rpc/caller-token.js";
import { type RawService, rawService } from "./rpc/raw.js";
import { RetryBudget } from "./rpc/retry.js";
import { type CallOptions, RpcClient } from "./rpc/rpc-client.js";
import { MAX_SESSION_ID_LENGTH } from "./session-id.js";
import { Sessions } from "./sessions.js";
import { Usage } from "./usage.js";
import { type ValidateKey, type ValidateSession, validatedOptions } from "./validate-options.js";
import {
  type SessionValidation,
  sessionValidationFromWire,
  type Validation,
  validationFromWire,
} from "./validation.js";
import { text } from "./wire.js";

/** The generated services of the contract. */
export interface RawServices {
  readonly admin: RawService<typeof AdminService>;
  readonly info: RawService<typeof InfoService>;
  readonly limits: RawService<typeof LimitService>;
  readonly sessions: RawService<typeof SessionService>;
  readonly usage: RawService<typeof UsageService>;
  readonly validation: RawService<typeof ValidationService>;
  readonly watch: RawService<typeof WatchService>;
}

/**
 * A tenant-auth client. Create one per process, and close it at the end. It holds the connections and the near cache,
 * and follows the watch stream.
 */
export class Client {
  /** Takes amounts from the limits of tenants and keys. */
  readonly limits: Limits;
  /** Binds sessions to tenants. */
  readonly sessions: Sessions;
  /** Records and reports usage. */
  readonly usage: Usage;
  /** All services of the contract, including administration. */
  readonly raw: RawServices;
  /**
   * Guards a live stream of a principal that this process has validated: an async iterable, a web `ReadableStream`, an
   * event stream (`ServerResponse`; in Fastify, `reply.raw`), a WebSocket, or a function that ends anything else. When the
   * key, the tenant or the session may no longer be used, the stream ends: iterables and web streams with the
   * `DeniedError`, or the `TenantAuthError` without a decision; event streams with an event `end`; WebSockets with the code
   * 1008, or 1013 without a decision. Throws a `TypeError` for a copy of a principal.
   */
  readonly guard: GuardStream;
  readonly #guards: Guards;
  readonly #rpc: RpcClient;
  readonly #cache: NearCache | undefined;
  readonly #near: CachingValidator | undefined;
  readonly #watcher: Watcher | undefined;

  /**
   * `endpoints`: `host:port`, `dns:///host:port`, `http://host:port` or `https://host:port`. All addresses are used in
   * turn.
   */
  constructor(endpoints: string | readonly string[], options: ClientOptions = {}) {
    const validated = settings(options);
    const { clock, timeoutMs, hedgeAfterMs, userAgent } = validated;
    const parsedEndpoints = parseEndpoints(endpoints, validated.tls !== undefined);
    const tokens =
      validated.callerToken === undefined ? undefined : new CallerTokens(validated.callerToken, clock);
    const budget = new RetryBudget(validated.retryBudget);
    const pool = new Pool({ ...validated, endpoints: parsedEndpoints });
    const rpc = new RpcClient({ pool, tokens, budget, timeoutMs, hedgeAfterMs, userAgent, clock });
    this.#rpc = rpc;
    const coverage = validated.nearCache === undefined ? undefined : new Coverage(clock);
    const validators: Validators = {
      key: (key, options) => this.#key(key, options),
      session: (id, key, options) => this.#session(id, { ...options, ...(key === undefined ? {} : { key }) }),
    };
    const guards = new Guards(clock, coverage, timeoutMs, validators);
    this.#guards = guards;
    this.guard = guardStream(() => {
      rpc.assertOpen();
      return guards;
    });
    if (validated.nearCache !== undefined && coverage !== undefined) {
      const cache = new NearCache({ ...validated.nearCache, clock, coverage });
      const near = new CachingValidator(cache, clock, timeoutMs);
      this.#cache = cache;
      this.#near = near;
      rpc.onChange((request) => near.changed(request));
      cache.onChange((name) => guards.changed(name));
      if (validated.nearCache.watch) {
        this.#watcher = new Watcher(rpc, cache, coverage, near.digests);
        void this.#watcher.run();
      }
    }
    this.limits = new Limits(
      rpc,
      this.#cache && this.#near && new SecondOpinion(this.#cache, this.#near.digests, validators),
    );
    this.sessions = new Sessions(rpc);
    this.usage = new Usage(rpc);
    this.raw = Object.freeze({
      admin: rawService(AdminService, rpc),
      info: rawService(InfoService, rpc),
      limits: rawService(LimitService, rpc),
      sessions: rawService(SessionService, rpc),
      usage: rawService(UsageService, rpc),
      validation: rawService(ValidationService, rpc),
      watch: rawService(WatchService, rpc),
    });
  }

  /**
   * Returns the owner of a valid key that holds the scopes. Throws `DeniedError` for a denial, `TenantAuthError`
   * without a decision.
   */
  async requireKey(key: string, options: ValidateKey = {}): Promise<Principal> {
    const principal = principalOf(await this.validateKey(key, options));
    const { clientAddress, scopes = [] } = options;
    return keepCredential(principal, { key, clientAddress, scopes });
  }

  /**
   * Returns the owner of a valid session that holds the scopes. Throws `DeniedError` for a denial, `TenantAuthError`
   * without a decision.
   */
  async requireSession(sessionId: string, options: ValidateSession = {}): Promise<Principal> {
    const principal = principalOf(await this.validateSession(sessionId, options));
    const { key, clientAddress, scopes = [] } = options;
    return keepCredential(principal, { session: { id: sessionId, key }, clientAddress, scopes });
  }

  /** Validates one key, exactly as the customer presented it, without the "Bearer " prefix. */
  async validateKey(key: string, options: ValidateKey = {}): Promise<Validation> {
    return (await this.#key(key, options)).answer;
  }

  async #key(key: string, options: ValidateKey): Promise<Answered<Validation>> {
    this.#rpc.assertOpen();
    const query = validatedOptions(options, ["scopes", "clientAddress", "timeoutMs", "signal"]);
    const { scopes, clientAddress, timeoutMs, signal } = query;
    text("key", key);
    if (isOverMaxLength(key))
      return uncovered(
        validationFromWire(create(ValidateKeyResponseSchema, { verdict: WireVerdict.MALFORMED })),
      );
    const ask = async (requiredScopes: readonly string[], limits: CallOptions): Promise<Validation> => {
      const asked = { key, requiredScopes: [...requiredScopes], clientAddress };
      const request = create(ValidateKeyRequestSchema, asked);
      return validationFromWire(await this.#rpc.call(ValidationService.method.validateKey, request, limits));
    };
    if (this.#near === undefined) return uncovered(await ask(scopes, { timeoutMs, signal }));
    const digest = this.#near.digests.key(key);
    return await this.#near.answer({
      ...query,
      digest,
      ask: (wanted, ms) => ask(wanted, { timeoutMs: ms }),
    });
  }

  /**
   * Validates 1 to 1,000 keys in one call. The outcomes are in the order of the keys. A key that cannot be decided has
   * an error as its outcome. Does not use the near cache.
   */
  validateKeys(keys: readonly (string | KeyQuery)[], options: CallOptions = {}): Promise<KeyOutcome[]> {
    return validateKeys(this.#rpc, keys, options);
  }

  /** Validates one session. */
  async validateSession(sessionId: string, options: ValidateSession = {}): Promise<SessionValidation> {
    return (await this.#session(sessionId, options)).answer;
  }

  async #session(sessionId: string, options: ValidateSession): Promise<Answered<SessionValidation>> {
    this.#rpc.assertOpen();
    const query = validatedOptions(options, ["scopes", "key", "clientAddress", "timeoutMs", "signal"]);
    const { scopes, clientAddress, timeoutMs, signal } = query;
    const ids = { sessionId: text("sessionId", sessionId), key: text("key", options.key ?? "") };
    if (sessionId.length > MAX_SESSION_ID_LENGTH)
      throw invalidField("session_id", `must have at most ${MAX_SESSION_ID_LENGTH} characters`);
    if (isOverMaxLength(ids.key))
      return uncovered(
        sessionValidationFromWire(create(ValidateSessionResponseSchema, { verdict: WireVerdict.MALFORMED })),
      );
    const ask = async (
      requiredScopes: readonly string[],
      limits: CallOptions,
    ): Promise<SessionValidation> => {
      const asked = { ...ids, requiredScopes: [...requiredScopes], clientAddress };
      const request = create(ValidateSessionRequestSchema, asked);
      const method = ValidationService.method.validateSession;
      return sessionValidationFromWire(await this.#rpc.call(method, request, limits));
    };
    const near = this.#near;
    if (near === undefined) return uncovered(await ask(scopes, { timeoutMs, signal }));
    return await near.answer({
      ...query,
      digest: near.digests.presented(sessionId, options.key),
      sessionDigest: near.digests.session(sessionId),
      ask: (wanted, ms) => ask(wanted, { timeoutMs: ms }),
    });
  }

  /** Starts a recorder that sends usage events in batches. Close it before the client. */
  usageRecorder(options: RecorderOptions = {}): UsageRecorder {
    return new UsageRecorder(this.usage, this.#rpc.clock, options);
  }

  /**
   * Returns a verifier of principal tokens for one audience. Create one per process and keep it, because it holds the
   * keys. It needs no closing.
   */
  principalVerifier(options: PrincipalVerifierOptions): PrincipalVerifier {
    return new PrincipalVerifier(this.#rpc, this.#cache, options);
  }

  /** Describes the replica that responds. */
  async serverInfo(options: CallOptions = {}): Promise<ServerInfo> {
    const method = InfoService.method.getServerInfo;
    return serverInfoFromWire(await this.#rpc.call(method, create(method.input), options));
  }

  /** State of the watch stream. */
  watchState(): WatchState {
    return this.#watcher?.state() ?? printable({ live: false, revision: 0n });
  }

  /**
   * Rejects new calls with an error of the kind `closed`, ends the watch stream, and closes the connections when the
   * calls in flight have completed. Guarded streams end, because their keys can no longer be validated. May be called
   * twice.
   */
  close(): void {
    this.#watcher?.close();
    this.#rpc.close();
    this.#guards.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
