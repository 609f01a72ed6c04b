import type { ServerResponse } from "node:http";
import * as checks from "../checks.js";

/** Options of the protected resource metadata (RFC 9728). */
export interface ResourceOptions {
  /** URI of this server, exactly as clients use it, such as `https://mcp.example.com/mcp`. */
  readonly resource?: string;
  /** Issuers of the authorization servers that issue tokens for this server, at least one. */
  readonly authorizationServers?: readonly string[];
}

/** The metadata document, and where it is served. */
export interface ResourceMetadata {
  readonly path: string;
  readonly url: string;
  readonly document: string;
}

export const METADATA_PATH = "/.well-known/oauth-protected-resource";

/** Returns the metadata; `undefined` if no authorization server is configured. */
export function resourceMetadata(
  { resource, authorizationServers }: ResourceOptions,
  scopes: readonly string[],
): ResourceMetadata | undefined {
  if (resource === undefined && authorizationServers === undefined) return undefined;
  if (resource === undefined || authorizationServers === undefined || authorizationServers.length === 0)
    throw new TypeError("resource and authorizationServers must be given together, with at least one server");
  const { origin, pathname, search } = url("resource", resource);
  const servers = checks.texts("authorizationServers", authorizationServers, "https://auth.example.com");
  for (const server of servers) url("authorizationServers", server);
  const path = `${METADATA_PATH}${pathname === "/" ? "" : pathname}`;
  const document = {
    resource,
    authorization_servers: servers,
    bearer_methods_supported: ["header"],
    ...(scopes.length === 0 ? {} : { scopes_supported: scopes }),
  };
  return { path, url: `${origin}${path}${search}`, document: JSON.stringify(document) };
}

/** Responds with the metadata. Clients in browsers may read it. */
export function sendMetadata(response: ServerResponse, { document }: ResourceMetadata): void {
  response.setHeader("content-type", "application/json");
  response.setHeader("access-control-allow-origin", "*");
  response.end(document);
}

function url(name: string, text: string): URL {
  const parsed = typeof text === "string" && URL.canParse(text) ? new URL(text) : undefined;
  if (parsed !== undefined && /^https?:$/.test(parsed.protocol) && !text.includes("#")) return parsed;
  throw new TypeError(
    `${name} must be a URL such as "https://mcp.example.com/mcp", without a fragment, not ${JSON.stringify(text)}`,
  );
}
