import * as checks from "../checks.js";
import { DeniedError } from "../denied.js";
import { keepCredential } from "../guard/credential.js";
import { isCausedBy } from "../http/admit.js";
import type { KeyValidator } from "../http/costs.js";
import { denied, undecided } from "../http/rejection.js";
import { notify, undecidedLog } from "../http/undecided-log.js";
import { principalOf } from "../principal.js";
import type { Validation } from "../validation.js";
import { type AuthInfo, authInfo } from "./auth-info.js";

/** The error classes of the SDK whose middleware uses the verifier. */
export type SdkErrors =
  /** Of `@modelcontextprotocol/sdk/server/auth/errors.js`. */
  | {
      readonly InvalidTokenError: new (message: string) => Error;
      readonly CustomOAuthError: new (code: string, message: string) => Error;
    }
  /** Of `@modelcontextprotocol/server`. */
  | { readonly OAuthError: new (code: string, message: string) => Error };

/** Options of a `KeyVerifier`. */
export interface KeyVerifierOptions {
  /** Timeout of a validation, in milliseconds; default: the client's timeout. */
  readonly timeoutMs?: number;
  /** Called with the error if no decision was made. Default: one log line per second. */
  readonly onError?: (error: unknown) => void;
}

/** The OAuth error code of a denial, by the status with which the adapters respond. */
const CODES: Readonly<Record<number, string>> = { 401: "invalid_token", 429: "too_many_requests" };

/**
 * Verifies API keys for the `requireBearerAuth` of an SDK, and for other users of the SDKs' `OAuthTokenVerifier`.
 * `mcpGate` is the better way: the SDKs can express only 401 and 403 for scopes. Other denials and undecided requests
 * are 400 with the OAuth error `access_denied`, `too_many_requests` or `temporarily_unavailable`.
 */
export class KeyVerifier {
  readonly #client: KeyValidator;
  readonly #errors: SdkErrors;
  readonly #timeoutMs: number | undefined;
  readonly #onError: (error: unknown) => void;

  constructor(client: KeyValidator, errors: SdkErrors, options: KeyVerifierOptions = {}) {
    checks.withMethod("client", client, "validateKey");
    const { timeoutMs, onError = undecidedLog() } = checks.options("options", options, [
      "timeoutMs",
      "onError",
    ]);
    if (typeof (errors as { OAuthError?: unknown } | undefined)?.OAuthError !== "function")
      throw new TypeError(
        'errors must be the module "@modelcontextprotocol/sdk/server/auth/errors.js", or { OAuthError } of "@modelcontextprotocol/server"',
      );
    if (timeoutMs !== undefined) checks.milliseconds("timeoutMs", timeoutMs);
    checks.callback("onError", onError);
    this.#client = client;
    this.#errors = errors;
    this.#timeoutMs = timeoutMs;
    this.#onError = onError;
  }

  /**
   * Throws an error of the SDK for a key that is denied, and if no decision was made; its `cause` is the `DeniedError` or
   * the `TenantAuthError`. The SDKs pass only the key and not the client's address, so keys that are limited to networks
   * are denied.
   */
  async verifyAccessToken(token: string): Promise<AuthInfo> {
    const validation = await this.#validate(token);
    if (validation.valid) {
      const credential = { key: token, clientAddress: undefined, scopes: [] };
      return authInfo(token, validation, { principal: keepCredential(principalOf(validation), credential) });
    }
    const { status, body } = denied(validation.verdict, validation.missingScopes, {});
    throw this.#error(CODES[status] ?? "access_denied", body.detail, new DeniedError(validation));
  }

  async #validate(token: string): Promise<Validation> {
    try {
      return await this.#client.validateKey(token, { timeoutMs: this.#timeoutMs });
    } catch (cause) {
      if (isCausedBy(cause, "key")) throw this.#error("invalid_token", "The API key is not valid.", cause);
      notify(this.#onError, cause);
      throw this.#error("temporarily_unavailable", undecided(cause).body.detail, cause);
    }
  }

  #error(code: string, message: string, cause: unknown): Error {
    const errors = this.#errors;
    return Object.assign(build(errors, code, message), { cause });
  }
}

function build(errors: SdkErrors, code: string, message: string): Error {
  if (!("CustomOAuthError" in errors)) return new errors.OAuthError(code, message);
  // This SDK recognises an invalid token by its class.
  if (code === "invalid_token") return new errors.InvalidTokenError(message);
  return new errors.CustomOAuthError(code, message);
}
