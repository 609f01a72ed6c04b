import { createHmac, randomBytes } from "node:crypto";

/**
 * Names keys and sessions in memory without holding them: an HMAC under a secret that this process made and never
 * shows, so that neither a heap dump nor a list of likely keys tells which keys were asked about.
 */
export class Digests {
  readonly #secret = randomBytes(32);

  key(key: string): string {
    return this.#digest("key", key);
  }

  session(sessionId: string): string {
    return this.#digest("session", sessionId);
  }

  /** A session together with the key that was presented along with it, if any. */
  presented(sessionId: string, key: string | undefined): string {
    return this.#digest("presented", JSON.stringify([sessionId, key ?? null]));
  }

  #digest(kind: string, text: string): string {
    return createHmac("sha256", this.#secret).update(kind).update("\0").update(text).digest("base64url");
  }
}
