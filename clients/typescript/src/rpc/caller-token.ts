import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Clock, elapsed, type Moment, moment } from "../clock.js";
import { TenantAuthError } from "../error.js";
import { warn } from "../warning.js";

/** Who calls, as a bearer token: itself, a function that gives it, or a file that holds it. */
export type CallerToken = string | (() => string | Promise<string>) | { readonly file: string };

/** How long a file's text is used before it is read again: a rotated token is in use soon, a busy client reads little. */
const FILE_REUSE_MS = 10_000;

/** What the service takes, and a header can carry. */
const TOKEN = /^[\x21-\x7e]{1,4096}$/;
const RULE = "must be 1 to 4096 visible ASCII characters without blanks";

/**
 * Gives the value of the `authorization` header for each call. A function that fails, and a file that holds no token any
 * more, leave the last good one in use. No error and no warning shows a token, nor what the caller's own code threw.
 */
export class CallerTokens {
  readonly #token: CallerToken;
  readonly #clock: Clock;
  #good: string | undefined;
  #readAt: Moment | undefined;

  constructor(token: CallerToken, clock: Clock) {
    this.#token = token;
    this.#clock = clock;
    if (typeof token === "function") return;
    if (typeof token === "string") {
      this.#good = parse(token);
      if (this.#good === undefined) throw new TypeError(`callerToken ${RULE}`);
      return;
    }
    if (typeof token !== "object" || typeof token?.file !== "string" || token.file === "") {
      throw new TypeError("callerToken must be a text, a function, or { file: path }");
    }
    let content: string;
    try {
      content = readFileSync(token.file, "utf8");
    } catch (error) {
      throw new TypeError(`callerToken.file cannot be read: ${(error as Error).message}`);
    }
    this.#good = parse(content);
    if (this.#good === undefined) throw new TypeError(`what is in callerToken.file ${RULE}: ${token.file}`);
    this.#readAt = moment(clock);
  }

  async header(): Promise<string> {
    if (typeof this.#token === "function") await this.#ask(this.#token, "the function callerToken");
    else if (typeof this.#token === "object" && this.#stale()) {
      const { file } = this.#token;
      this.#readAt = moment(this.#clock);
      await this.#ask(() => readFile(file, "utf8"), `callerToken.file ${file}`);
    }
    if (this.#good !== undefined) return `Bearer ${this.#good}`;
    throw new TenantAuthError("UNAUTHENTICATED", `the function callerToken gave no token: it ${RULE}`);
  }

  /** The service refused the token: a file may hold another one by now. */
  refused(): void {
    this.#readAt = undefined;
  }

  #stale(): boolean {
    return this.#readAt === undefined || elapsed(this.#clock, this.#readAt) > FILE_REUSE_MS;
  }

  async #ask(source: () => string | Promise<string>, name: string): Promise<void> {
    const token = await Promise.resolve()
      .then(source)
      .then(parse, () => undefined);
    if (token !== undefined) this.#good = token;
    else if (this.#good !== undefined) warn(`the last caller token stays in use: ${name} gave none`);
  }
}

/** Blanks, line ends and a byte order mark around it are nobody's intention. */
function parse(text: unknown): string | undefined {
  const token = typeof text === "string" ? text.trim() : "";
  return TOKEN.test(token) ? token : undefined;
}
