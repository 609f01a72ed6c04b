import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Clock, elapsed, type Moment, moment } from "../clock.js";
import { TenantAuthError } from "../error.js";
import { warn } from "../warning.js";

/** Identifies this caller: a bearer token, a function that returns it, or a file that contains it. */
export type CallerToken = string | (() => string | Promise<string>) | { readonly file: string };

/**
 * How long the content of a file is used before it is read again: a compromise between quick rotation and few reads.
 */
const FILE_REUSE_MS = 10_000;

/** The tokens that the service accepts and a header can carry. */
const TOKEN = /^[\x21-\x7e]{1,4096}$/;
const RULE = "must be 1 to 4096 visible ASCII characters without spaces";

/**
 * Returns the value of the `authorization` header for each call. If the function fails or the file contains no valid
 * token, the last valid token stays in use. Errors and warnings contain neither a token nor the error of the
 * application's function.
 */
export class CallerTokens {
  readonly #token: CallerToken;
  readonly #clock: Clock;
  #valid: string | undefined;
  #readAt: Moment | undefined;

  constructor(token: CallerToken, clock: Clock) {
    this.#token = token;
    this.#clock = clock;
    if (typeof token === "function") return;
    if (typeof token === "string") {
      this.#valid = parse(token);
      if (this.#valid === undefined) throw new TypeError(`callerToken ${RULE}`);
      return;
    }
    if (typeof token !== "object" || typeof token?.file !== "string" || token.file === "") {
      throw new TypeError("callerToken must be text, a function, or { file: path }");
    }
    let content: string;
    try {
      content = readFileSync(token.file, "utf8");
    } catch (error) {
      throw new TypeError(`callerToken.file cannot be read: ${(error as Error).message}`);
    }
    this.#valid = parse(content);
    if (this.#valid === undefined)
      throw new TypeError(`the content of callerToken.file ${RULE}: ${token.file}`);
    this.#readAt = moment(clock);
  }

  async header(): Promise<string> {
    if (typeof this.#token === "function") await this.#refresh(this.#token, "function callerToken");
    else if (typeof this.#token === "object" && this.#stale()) {
      const { file } = this.#token;
      this.#readAt = moment(this.#clock);
      await this.#refresh(() => readFile(file, "utf8"), `callerToken.file ${file}`);
    }
    if (this.#valid !== undefined) return `Bearer ${this.#valid}`;
    throw new TenantAuthError(
      "UNAUTHENTICATED",
      `the function callerToken returned no valid token: it ${RULE}`,
    );
  }

  /** The service rejected the token. The file is read again for the next call, because it may contain a new one. */
  markRejected(): void {
    this.#readAt = undefined;
  }

  #stale(): boolean {
    return this.#readAt === undefined || elapsed(this.#clock, this.#readAt) > FILE_REUSE_MS;
  }

  async #refresh(source: () => string | Promise<string>, name: string): Promise<void> {
    const token = await Promise.resolve()
      .then(source)
      .then(parse, () => undefined);
    if (token !== undefined) this.#valid = token;
    else if (this.#valid !== undefined)
      warn(`caller token not renewed, the last valid one stays in use: ${name} returned no valid token`);
  }
}

/** Removes surrounding whitespace and a byte order mark, which are never intended. */
function parse(text: unknown): string | undefined {
  const token = typeof text === "string" ? text.trim() : "";
  return TOKEN.test(token) ? token : undefined;
}
