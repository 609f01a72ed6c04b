/** Requests under way, by what they are about: whoever asks the same meanwhile waits for the same answer. */
export class Flights<T> {
  readonly #flights = new Map<string, Promise<T>>();

  /** Joins the request under way, or starts one. An error is shared and then forgotten. */
  join(digest: string, start: () => Promise<T>): { readonly answer: Promise<T>; readonly joined: boolean } {
    const under = this.#flights.get(digest);
    if (under !== undefined) return { answer: under, joined: true };
    const answer = start().finally(() => this.#flights.delete(digest));
    this.#flights.set(digest, answer);
    // Everybody may have given up by the time it fails; nobody is to be told then.
    answer.catch(() => undefined);
    return { answer, joined: false };
  }
}
