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
 * Returns the key in these headers. The same key in several headers is one credential. Different keys and a repeated
 * header are ambiguous: a server behind this one might read another value.
 */
export function credential(request: HttpRequest, headers: readonly string[]): Credential {
  // Authorization is checked even if the key comes from another header, because other servers may read it.
  const isRepeated = ["authorization", ...headers].some((name) => valuesOf(request, name).length > 1);
  const shown = headers.flatMap((name) => valuesOf(request, name).map((value) => ({ name, value })));
  if (isRepeated || shown.some(({ value }) => /,\s*bearer\s/i.test(value))) return { ambiguous: true };
  const [key, ...others] = shown.map(({ name, value }) =>
    name === "authorization" ? bearer(value) : value.trim(),
  );
  if (others.some((other) => other !== key)) return { ambiguous: true };
  return key ? { key, ambiguous: false } : { ambiguous: false };
}

/** Returns all values of a header, as received. */
export function valuesOf({ rawHeaders }: Pick<HttpRequest, "rawHeaders">, name: string): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name);
}

const PREFLIGHT_HEADERS = ["origin", "access-control-request-method"] as const;

/** Whether this is a CORS preflight request. Browsers send these without credentials. */
export function isPreflight(request: HttpRequest): boolean {
  const isComplete = PREFLIGHT_HEADERS.every((name) => valuesOf(request, name).length > 0);
  return request.method === "OPTIONS" && isComplete;
}

function bearer(authorization: string): string | undefined {
  // A key that contains whitespace is passed on; the service reports it as malformed.
  return /^Bearer +(\S.*)$/i.exec(authorization)?.[1]?.trim();
}
