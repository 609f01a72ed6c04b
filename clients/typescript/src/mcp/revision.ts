/** Revisions with the `initialize` handshake, sessions and GET streams. Without a header, the spec assumes 2025-03-26. */
const HANDSHAKE: ReadonlySet<string> = new Set(["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]);

/** The revision of a request. Unknown and later revisions have no sessions. */
export type Revision =
  | { readonly hasSessions: true }
  | {
      readonly hasSessions: false;
      /** The value of `MCP-Protocol-Version`. */
      readonly version: string;
    };

/** Returns the revision of a request; `undefined` if the header is repeated. */
export function revisionOf(versions: readonly string[]): Revision | undefined {
  const [version, ...others] = versions;
  if (others.length > 0) return undefined;
  return version === undefined || HANDSHAKE.has(version)
    ? { hasSessions: true }
    : { hasSessions: false, version };
}
