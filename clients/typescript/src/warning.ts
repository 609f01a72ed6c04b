/** Tells the operator of something that nobody's call fails for. Never of a key or a token. */
export function warn(message: string): void {
  process.emitWarning(message, "TenantAuthWarning");
}
