/** Merges identical concurrent requests, by their digest. */
export class InFlightRequests<T> {
  readonly #inFlight = new Map<string, Promise<T>>();

  /** Joins the request in flight, or starts one. An error is shared with all callers but not cached. */
  join(digest: string, start: () => Promise<T>): { readonly answer: Promise<T>; readonly joined: boolean } {
    const existing = this.#inFlight.get(digest);
    if (existing !== undefined) return { answer: existing, joined: true };
    const answer = start().finally(() => this.#inFlight.delete(digest));
    this.#inFlight.set(digest, answer);
    // All callers may have given up by then. This prevents an unhandled rejection.
    answer.catch(() => undefined);
    return { answer, joined: false };
  }
}
