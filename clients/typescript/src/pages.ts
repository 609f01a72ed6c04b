import * as checks from "./checks.js";

/** Page size; 0 means the service's default. */
export function pageSize({ pageSize }: { readonly pageSize?: number }): number {
  return pageSize === undefined ? 0 : checks.count("pageSize", pageSize);
}

/** Iterates over the items of all pages. Each page is loaded when it is needed. */
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
