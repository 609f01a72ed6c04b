import * as checks from "./checks.js";

/** How many to fetch at once; 0 leaves it to the service. */
export function pageSize({ pageSize }: { readonly pageSize?: number }): number {
  return pageSize === undefined ? 0 : checks.count("pageSize", pageSize);
}

/** Everything on all pages, each fetched when it is needed. */
export async function* pages<T>(
  fetch: (pageToken: string) => Promise<{ readonly items: readonly T[]; readonly nextPageToken: string }>,
): AsyncGenerator<T, void, undefined> {
  let token = "";
  do {
    const page = await fetch(token);
    yield* page.items;
    token = page.nextPageToken;
  } while (token !== "");
}
