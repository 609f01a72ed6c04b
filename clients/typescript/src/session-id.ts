/** The contract's maximum length of a session id, in characters. */
export const MAX_SESSION_ID_LENGTH = 1024;

/** Whether the contract allows a session id: visible ASCII characters. */
export function isSessionId(text: string): boolean {
  return text.length <= MAX_SESSION_ID_LENGTH && /^[\x21-\x7e]+$/.test(text);
}
