import { create } from "@bufbuild/protobuf";
import { elapsed, type Moment, moment } from "../clock.js";
import { InfoService } from "../gen/tenantauth/v1/info_pb.js";
import type { RpcClient } from "../rpc/rpc-client.js";
import { invalidPrincipal } from "./denied.js";
import { type KeySet, readKeySet, type VerificationKey } from "./key-set.js";

/** A set that is older is fetched again in the background. The service publishes a key well before it signs with it. */
const MAX_AGE_MS = 300_000;
/** Minimum time between two fetches, because anyone can send tokens with unknown key ids. */
const FETCH_PAUSE_MS = 5000;
/** The same without any set: until there is one, all requests fail. */
const FIRST_FETCH_PAUSE_MS = 1000;

/** The keys that verify principal tokens, fetched when they are needed. */
export class PrincipalKeys {
  readonly #rpc: RpcClient;
  #set: KeySet | undefined;
  #fetchedAt: Moment | undefined;
  #askedAt: Moment | undefined;
  #fetching: Promise<void> | undefined;
  /** Why the last fetch brought no set. */
  #failure: unknown;

  constructor(rpc: RpcClient) {
    this.#rpc = rpc;
  }

  /**
   * Returns the key with this id, and the issuer of its tokens. Throws `PrincipalDeniedError` if there is no such key, and
   * the error of the last fetch if that failed: the service may have a new key.
   */
  async find(kid: string): Promise<VerificationKey & { readonly issuer: string }> {
    if (this.#set?.keys.has(kid) !== true) await this.#fetch();
    else if (this.#isOlderThan(this.#fetchedAt, MAX_AGE_MS)) void this.#fetch();
    const key = this.#set?.keys.get(kid);
    if (this.#set !== undefined && key !== undefined) return { ...key, issuer: this.#set.issuer };
    throw this.#failure ?? invalidPrincipal("kid");
  }

  /** Fetches the set, unless it was just done. Concurrent callers share one fetch. Never rejects. */
  #fetch(): Promise<void> {
    if (this.#fetching !== undefined) return this.#fetching;
    const pauseMs = this.#set === undefined ? FIRST_FETCH_PAUSE_MS : FETCH_PAUSE_MS;
    if (!this.#isOlderThan(this.#askedAt, pauseMs)) return Promise.resolve();
    this.#askedAt = moment(this.#rpc.clock);
    this.#fetching = this.#replace().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  /** A failed fetch, or an answer without usable keys, keeps the old set. */
  async #replace(): Promise<void> {
    const method = InfoService.method.getPrincipalKeys;
    try {
      const { jwks, issuer } = await this.#rpc.call(method, create(method.input));
      this.#set = await readKeySet(jwks, issuer);
      this.#fetchedAt = moment(this.#rpc.clock);
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
    }
  }

  #isOlderThan(since: Moment | undefined, limitMs: number): boolean {
    return since === undefined || elapsed(this.#rpc.clock, since) >= limitMs;
  }
}
