import type { IncomingMessage, ServerResponse } from "node:http";
import * as checks from "../checks.js";
import type { Client } from "../client.js";
import { keepCredential } from "../guard/credential.js";
import { type Admission, admission } from "../http/admit.js";
import { valuesOf } from "../http/credentials.js";
import {
  ambiguous,
  type Challenge,
  contentTooLarge,
  type Rejection,
  send,
  undecided,
} from "../http/rejection.js";
import { notify } from "../http/undecided-log.js";
import { authInfo } from "./auth-info.js";
import { OPEN } from "./decision.js";
import { mirroredHeaders } from "./header-agreement.js";
import { type Judged, judgeHandshake, judgeHeaders, judgeStateless, rejectionOf } from "./judge.js";
import { type Json, parseBody, RpcRejection } from "./message.js";
import { METADATA_PATH, resourceMetadata, sendMetadata } from "./metadata.js";
import { gateSettings, type McpGateOptions } from "./options.js";
import {
  BodyTooLarge,
  type GateRequest,
  RequestAborted,
  readBody,
  removeHeaders,
  setBody,
} from "./request.js";
import { type Checked, gateResponse } from "./response-plan.js";
import { type Revision, revisionOf } from "./revision.js";
import { GateSessions } from "./sessions.js";

/** The parts of a `Client` that a gate needs. */
export type McpGateClient = Pick<Client, "validateKey" | "validateSession" | "sessions" | "guard"> &
  Partial<Pick<Client, "limits">>;

/** Middleware for Express, and for plain `node:http`, where `next` calls the server. */
export interface McpGate {
  (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void): void;
  /** The path at which the gate serves the protected resource metadata, if it is configured. */
  readonly metadataPath: string | undefined;
}

type Admitted = Extract<Admission, { readonly key: string }>;

/** Methods whose requests have no message. */
const WITHOUT_BODY: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE", "OPTIONS"]);

/**
 * Returns the gate in front of an MCP server of any SDK. It admits only requests with a valid key, binds sessions to the
 * key's tenant, applies the policy, takes the costs, and ends streams when the key may no longer be used. It sets
 * `request.auth`, and `request.body` if there is a policy. Throws a `TypeError` for invalid options.
 */
export function mcpGate(client: McpGateClient, options: McpGateOptions = {}): McpGate {
  const settings = gateSettings(options);
  const { policy, scopes: needed, onError, maxBodyBytes, usage } = settings;
  const { timeoutMs, realm } = options;
  checks.withMethod("client", client, "validateSession");
  const metadata = resourceMetadata(options, policy?.scopes ?? []);
  const challenge: Challenge = { realm, resourceMetadataUrl: metadata?.url };
  const admissionOptions = {
    ...settings.admission,
    ...(metadata && { resourceMetadataUrl: metadata.url }),
  };
  const admit = admission(client, admissionOptions);
  const { costs, ...withoutCosts } = admissionOptions;
  const validate = costs === undefined ? admit : admission(client, withoutCosts);
  const sessions = new GateSessions(client, { ttlMs: settings.sessionTtlMs, timeoutMs, onError });

  async function bodyOf(request: GateRequest): Promise<unknown> {
    if (request.readableEnded) {
      if (request.body !== undefined) return request.body;
      throw new TypeError("the body was read before the gate: install the gate first");
    }
    const body = parseBody(await readBody(request, maxBodyBytes));
    setBody(request, body);
    return body;
  }

  /** Applies the policy. Returns the rejection, or what was judged. */
  async function judge(
    request: GateRequest,
    revision: Revision,
    held: readonly string[],
  ): Promise<Rejection | Judged | undefined> {
    const scopes = { needed, held };
    const refused = rejectionOf(OPEN, scopes, challenge);
    if (refused !== undefined || policy === undefined) return refused;
    if (WITHOUT_BODY.has(request.method ?? "")) return undefined;
    let judged: Judged;
    if (revision.hasSessions) judged = judgeHandshake(policy, await bodyOf(request));
    else {
      const values = (name: string): string[] => valuesOf(request, name);
      const headers = mirroredHeaders(revision.version, values("mcp-method"), values("mcp-name"));
      const early = rejectionOf(judgeHeaders(policy, headers), scopes, challenge);
      if (early !== undefined) return early;
      judged = judgeStateless(policy, headers, await bodyOf(request));
    }
    return rejectionOf(judged.decision, scopes, challenge) ?? judged;
  }

  /** Checks the session of a request, and what the policy says about it. */
  async function check(request: GateRequest, admitted: Admitted): Promise<Rejection | Checked> {
    const { key, principal, validation, clientAddress, limits, headers } = admitted;
    const revision = revisionOf(valuesOf(request, "mcp-protocol-version"));
    if (revision === undefined) return ambiguous("The header MCP-Protocol-Version occurs more than once.");
    const presented = { key, tenantId: principal.tenantId, clientAddress };
    const [sessionId] = revision.hasSessions ? valuesOf(request, "mcp-session-id") : [];
    if (!revision.hasSessions) removeHeaders(request, "mcp-session-id", "last-event-id");
    if (sessionId !== undefined) {
      const rejection = await sessions.rejectionOf(sessionId, presented);
      if (rejection !== undefined) return rejection;
    }
    const judged = await judge(request, revision, validation.scopes);
    if (judged !== undefined && "status" in judged) return judged;
    return { revision, presented, sessionId, judged, principal, validation, limits, headers };
  }

  /** Prepares the request and the response for the application, and records the usage. */
  function pass(request: GateRequest, response: ServerResponse, checked: Checked): void {
    const { presented, sessionId, judged, principal, validation, limits, headers } = checked;
    const { key, tenantId, clientAddress } = presented;
    for (const { metric, quantity } of judged?.decision.usage ?? [])
      usage?.record(tenantId, metric, quantity);
    const session = sessionId === undefined ? {} : { session: { id: sessionId, key: undefined } };
    keepCredential(principal, { key, clientAddress, scopes: needed, ...session });
    request.auth = authInfo(key, validation, { principal, clientAddress, limits });
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    gateResponse({ ...checked, request, response }, { client, sessions, settings });
  }

  /** Returns whether the application gets the request. */
  async function handle(request: GateRequest, response: ServerResponse): Promise<boolean> {
    const { method, originalUrl: url = request.url, rawHeaders, socket } = request;
    const path = url?.split("?")[0] ?? "";
    if (metadata !== undefined && path === metadata.path && method === "GET") {
      sendMetadata(response, metadata);
      return false;
    }
    if (path.startsWith(METADATA_PATH) && method === "GET") {
      response.statusCode = 404;
      response.end();
      return false;
    }
    try {
      // The costs are taken last: nothing that the policy refuses costs anything, and they may depend on the body.
      const readsBody = policy !== undefined && !WITHOUT_BODY.has(method ?? "");
      const first = readsBody ? validate : admit;
      let messages: readonly Json[] = [];
      for (let isSecond = false; ; isSecond = true) {
        const step = isSecond ? admit : first;
        const admitted = await step({ method, url, rawHeaders, socket }, { request, messages });
        if (admitted.rejection === undefined && admitted.principal === undefined) return true;
        const wasWhole = request.complete;
        const checked = admitted.rejection ?? (await check(request, admitted));
        // The key may have been revoked while the client took its time to send the body.
        const isLate = !("status" in checked) && checked.judged !== undefined && !wasWhole;
        if (!("status" in checked) && !isSecond && (isLate || first !== admit)) {
          messages = checked.judged?.messages ?? [];
          continue;
        }
        if ("status" in checked) send(response, checked);
        else pass(request, response, checked);
        return !("status" in checked);
      }
    } catch (error) {
      if (error instanceof RequestAborted) return false;
      if (error instanceof RpcRejection) send(response, rpcRejection(error));
      else if (error instanceof BodyTooLarge) send(response, contentTooLarge());
      else if (error instanceof TypeError) throw error;
      else {
        // The usage could not be recorded.
        notify(onError, error);
        send(response, undecided(error));
      }
      return false;
    }
  }

  const gate = (
    request: IncomingMessage,
    response: ServerResponse,
    next: (error?: unknown) => void,
  ): void => {
    handle(request, response)
      .then((isAdmitted) => {
        if (isAdmitted) next();
      })
      .catch(next);
  };
  return Object.assign(gate, { metadataPath: metadata?.path });
}

function rpcRejection({ code, message, id }: RpcRejection): Rejection<object> {
  return {
    status: 400,
    headers: { "content-type": "application/json", "cache-control": "no-store" },
    body: { jsonrpc: "2.0", id, error: { code, message } },
  };
}
