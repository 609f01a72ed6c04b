import type { Answered } from "../near/entry.js";
import type { Principal } from "../principal.js";
import type { SessionValidation, Validation } from "../validation.js";
import type { Credential } from "./credential.js";
import { deniedEnd, type StreamEnd } from "./stream-end.js";

/** Conditions of one validation. */
export interface CheckOptions {
  readonly scopes: readonly string[];
  readonly clientAddress: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The validations of the client, through its near cache. */
export interface Validators {
  key(key: string, options: CheckOptions): Promise<Answered<Validation>>;
  session(id: string, key: string | undefined, options: CheckOptions): Promise<Answered<SessionValidation>>;
}

/** The result of a check. */
export interface Checked {
  /** Set for a denial. */
  readonly denial?: StreamEnd;
  /** The valid answers. */
  readonly answers: readonly Answered<Validation>[];
}

/** Validates the credential of a principal again. Rejects if no decision was made. */
export async function check(
  validators: Validators,
  principal: Principal,
  credential: Credential,
  options: CheckOptions,
): Promise<Checked> {
  const { key, session } = credential;
  const answers: Answered<Validation>[] = [];
  // The session's opener may have had other scopes than the key of the request.
  const sessionOptions = key === undefined ? options : { ...options, scopes: [] };
  const steps = [
    ...(key === undefined ? [] : [() => validators.key(key, options)]),
    ...(session === undefined ? [] : [() => validators.session(session.id, session.key, sessionOptions)]),
  ];
  for (const step of steps) {
    const answered = await step();
    const { answer } = answered;
    if (!answer.valid) return { denial: deniedEnd(answer), answers };
    if (answer.tenantId !== principal.tenantId)
      return { denial: deniedEnd(answer, "TENANT_MISMATCH"), answers };
    answers.push(answered);
  }
  return { answers };
}
