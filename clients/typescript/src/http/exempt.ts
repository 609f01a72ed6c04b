import * as checks from "../checks.js";
import type { HttpRequest } from "./credentials.js";

/** Returns whether a request needs no credential, because its path is one of these, without the query. */
export function exemptPaths(paths: string | readonly string[]): (request: HttpRequest) => boolean {
  const exempt = new Set(checks.shapedTexts("exempt", paths, /^\/[^?#]*$/, 'paths such as "/healthz"'));
  return ({ url }) => exempt.has(url?.split("?")[0] ?? "");
}
