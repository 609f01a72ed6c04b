import type { Validators } from "../guard/check.js";
import type { CheckedCredential } from "../limits/credential.js";
import type { CallOptions } from "../rpc/rpc-client.js";
import type { SessionValidation, Validation } from "../validation.js";
import type { NearCache } from "./cache.js";
import type { Digests } from "./digest.js";
import type { RequestStart } from "./entry.js";

/**
 * Validates credentials through the near cache, and compares validations that did not go through it with what it knows, so
 * that they are no weaker: the replica that made one may not have read a change yet.
 */
export class SecondOpinion {
  readonly #cache: NearCache;
  readonly #digests: Digests;
  readonly #validators: Validators;

  constructor(cache: NearCache, digests: Digests, validators: Validators) {
    this.#cache = cache;
    this.#digests = digests;
    this.#validators = validators;
  }

  /** Returns the state of the cache just before a request is sent. */
  requestStart(): RequestStart {
    return this.#cache.requestStart();
  }

  /** Returns the denial of a credential that the validation of a request does not reflect, if there is one. */
  async denial(
    credential: CheckedCredential,
    validation: Validation,
    start: RequestStart,
    timeoutMs: number,
  ): Promise<Validation | SessionValidation | undefined> {
    const { key, sessionId } = credential;
    const sessionDigest = sessionId === undefined ? undefined : this.#digests.session(sessionId);
    if (this.#cache.isCurrent(validation, start, sessionDigest)) {
      const digest =
        sessionId === undefined ? this.#digests.key(key ?? "") : this.#digests.presented(sessionId, key);
      const cached = this.#cache.lookup(digest, credential, sessionDigest)?.answer;
      const isLater = cached !== undefined && cached.revision > validation.revision;
      return isLater && !cached.valid ? cached : undefined;
    }
    const answer = await this.validate(credential, { timeoutMs });
    return answer.valid ? undefined : answer;
  }

  /** Validates a credential through the near cache. */
  async validate(
    { key, sessionId, scopes, clientAddress }: CheckedCredential,
    { timeoutMs, signal }: CallOptions,
  ): Promise<Validation | SessionValidation> {
    const options = { scopes, clientAddress, timeoutMs, signal };
    const { key: validateKey, session: validateSession } = this.#validators;
    const validating =
      sessionId === undefined ? validateKey(key ?? "", options) : validateSession(sessionId, key, options);
    return (await validating).answer;
  }
}
