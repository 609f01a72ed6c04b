/** Tells the operator of something that nobody's call fails for. Never of a key or a token. */
export function warn(message: string): void {
  process.emitWarning(message, "TenantAuthWarning");
}

/** Calls what the application gave, which may fail, at once or later: its message may hold a key, so only its name is told. */
export function guarded(name: string, call: () => unknown): void {
  const failed = (thrown: unknown): void =>
    warn(`${name} failed: ${thrown instanceof Error ? thrown.name : "it threw no error"}`);
  try {
    Promise.resolve(call()).catch(failed);
  } catch (thrown) {
    failed(thrown);
  }
}
