/**
 * Emits a process warning about a problem that no call returns as an error. The message must not contain a key or a
 * token.
 */
export function warn(message: string): void {
  process.emitWarning(message, "TenantAuthWarning");
}

/**
 * Calls a function of the application, which may fail. Only the name of the error is reported, because its message may
 * contain a key.
 */
export function guarded(name: string, call: () => unknown): void {
  const failed = (thrown: unknown): void =>
    warn(
      `${name} failed: ${thrown instanceof Error ? thrown.name : "a value that is not an Error was thrown"}`,
    );
  try {
    Promise.resolve(call()).catch(failed);
  } catch (thrown) {
    failed(thrown);
  }
}
