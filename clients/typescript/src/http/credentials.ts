/** The parts of a request that an adapter reads. */
export interface HttpRequest {
  readonly method: string | undefined;
  /** Path and query, as sent by the client. */
  readonly url: string | undefined;
  /**
   * Alternating names and values, as received. Node.js joins or drops repeated headers in all other representations.
   */
  readonly rawHeaders: readonly string[];
  /** The connection. A Unix socket has no address. */
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/** The credential of a request. */
export type Credential =
  | { readonly key: string; readonly ambiguous: false }
  | { readonly key?: never; readonly ambiguous: boolean };

/**
 * Returns the key in one of these headers. A repeated header, or several of these headers in one request, are
 * ambiguous: a server behind this one might read another value.
 */
export function credential(request: HttpRequest, headers: readonly string[]): Credential {
  const shown = headers.flatMap((name) => valuesOf(request, name).map((value) => ({ name, value })));
  const [first] = shown;
  // Authorization is checked even if the key comes from another header, because other servers may read it.
  const repeated = shown.length > 1 || valuesOf(request, "authorization").length > 1;
  if (repeated || /,\s*bearer\s/i.test(first?.value ?? "")) return { ambiguous: true };
  if (first === undefined) return { ambiguous: false };
  const key = first.name === "authorization" ? bearer(first.value) : first.value.trim();
  return key ? { key, ambiguous: false } : { ambiguous: false };
}

/** Returns all values of a header, as received. */
export function valuesOf({ rawHeaders }: HttpRequest, name: string): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name);
}

/** Whether this is a CORS preflight request. Browsers send these without credentials. */
export function isPreflight(request: HttpRequest): boolean {
  return request.method === "OPTIONS" && valuesOf(request, "access-control-request-method").length > 0;
}

function bearer(authorization: string): string | undefined {
  // A key that contains whitespace is passed on; the service reports it as malformed.
  return /^Bearer +(\S.*)$/i.exec(authorization)?.[1]?.trim();
}
