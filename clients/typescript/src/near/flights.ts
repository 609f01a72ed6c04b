/** Merges identical concurrent requests, by their digest. */
export class Flights<T> {
  readonly #flights = new Map<string, Promise<T>>();

  /** Joins the request in flight, or starts one. An error is shared with all callers but not cached. */
  join(digest: string, start: () => Promise<T>): { readonly answer: Promise<T>; readonly joined: boolean } {
    const under = this.#flights.get(digest);
    if (under !== undefined) return { answer: under, joined: true };
    const answer = start().finally(() => this.#flights.delete(digest));
    this.#flights.set(digest, answer);
    // All callers may have given up by then. This prevents an unhandled rejection.
    answer.catch(() => undefined);
    return { answer, joined: false };
  }
}
