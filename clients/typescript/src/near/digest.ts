import { createHmac, randomBytes } from "node:crypto";

/**
 * Digests of keys and sessions: an HMAC with a random secret of this process, so that a heap dump does not reveal keys
 * and cannot be used to test candidates.
 */
export class Digests {
  readonly #secret = randomBytes(32);

  key(key: string): string {
    return this.#digest("key", key);
  }

  session(sessionId: string): string {
    return this.#digest("session", sessionId);
  }

  /** Digest of a session with the key presented with it, if any. */
  presented(sessionId: string, key: string | undefined): string {
    return this.#digest("presented", JSON.stringify([sessionId, key ?? null]));
  }

  #digest(kind: string, text: string): string {
    return createHmac("sha256", this.#secret).update(kind).update("\0").update(text).digest("base64url");
  }
}
