/** The parts of a request that an adapter looks at. */
export interface HttpRequest {
  readonly method: string | undefined;
  /** As the client sent it: path and query. */
  readonly url: string | undefined;
  /** Names and values in turn, as they came: Node.js joins or drops repeated headers in all other views of them. */
  readonly rawHeaders: readonly string[];
}

/** What a request shows. */
export type Credential =
  | { readonly key: string; readonly ambiguous: false }
  | { readonly key?: never; readonly ambiguous: boolean };

/**
 * The key in one of these headers. A header that comes twice, or several of them at once, are ambiguous: whoever reads
 * them next might take another one.
 */
export function credential(request: HttpRequest, headers: readonly string[]): Credential {
  const shown = headers.flatMap((name) => valuesOf(request, name).map((value) => ({ name, value })));
  const [first] = shown;
  // Authorization is read by others too, whatever this adapter was told to read.
  const repeated = shown.length > 1 || valuesOf(request, "authorization").length > 1;
  if (repeated || /,\s*bearer\s/i.test(first?.value ?? "")) return { ambiguous: true };
  if (first === undefined) return { ambiguous: false };
  const key = first.name === "authorization" ? bearer(first.value) : first.value.trim();
  return key ? { key, ambiguous: false } : { ambiguous: false };
}

/** Every value of a header, as it came. */
export function valuesOf({ rawHeaders }: HttpRequest, name: string): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name);
}

/** Whether a browser asks beforehand what it may send: such a request never has a credential. */
export function isPreflight(request: HttpRequest): boolean {
  return request.method === "OPTIONS" && valuesOf(request, "access-control-request-method").length > 0;
}

function bearer(authorization: string): string | undefined {
  // What holds blanks is a key that can be none, which the service says.
  return /^Bearer +(\S.*)$/i.exec(authorization)?.[1]?.trim();
}
