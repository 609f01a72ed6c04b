import { readFile } from "node:fs/promises";
import { type Clock, elapsed, type Moment, moment } from "../clock.js";
import { TenantAuthError } from "../error.js";

/** Who calls, as a bearer token: itself, a function that gives it, or a file that holds it. */
export type CallerToken = string | (() => string | Promise<string>) | { readonly file: string };

/** How long a file's text is used before it is read again: a rotated token is in use soon, a busy client reads little. */
const FILE_REUSE_MS = 10_000;

/** Characters that a header can carry. A token with others would be quoted in the error of whoever refuses it. */
const HEADER_SAFE = /^[\x21-\x7e]+$/;

/** Gives the value of the `authorization` header for each call. */
export class CallerTokens {
  readonly #token: CallerToken;
  readonly #clock: Clock;
  #read: { text: string; at: Moment } | undefined;

  constructor(token: CallerToken, clock: Clock) {
    this.#token = token;
    this.#clock = clock;
  }

  /** What went wrong in a function or a file of the caller's is not repeated: it may hold the token. */
  async header(): Promise<string> {
    const token = await this.#current().catch(() => {
      throw new TenantAuthError("UNAUTHENTICATED", "callerToken could not be read");
    });
    if (HEADER_SAFE.test(token.trim())) return `Bearer ${token.trim()}`;
    throw new TenantAuthError(
      "UNAUTHENTICATED",
      "callerToken must be printable ASCII without spaces, and not empty",
    );
  }

  /** The service refused the token: a file may hold another one by now. */
  refused(): void {
    this.#read = undefined;
  }

  async #current(): Promise<string> {
    if (typeof this.#token === "string") return this.#token;
    if (typeof this.#token === "function") return await this.#token();
    if (this.#read === undefined || elapsed(this.#clock, this.#read.at) > FILE_REUSE_MS) {
      const at = moment(this.#clock);
      this.#read = { text: await readFile(this.#token.file, "utf8"), at };
    }
    return this.#read.text;
  }
}
