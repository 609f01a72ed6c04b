import type { ServerResponse } from "node:http";
import type { Client } from "../client.js";
import type { StreamEnd } from "../guard/stream-end.js";
import { type Rejection, undecided } from "../http/rejection.js";
import { notify } from "../http/undecided-log.js";
import type { LimitDecision } from "../limits/decision.js";
import type { Principal } from "../principal.js";
import type { Validation } from "../validation.js";
import { guarded } from "../warning.js";
import type { Judged } from "./judge.js";
import { ListFilter } from "./lists.js";
import { asObject, idOf } from "./message.js";
import type { GateSettings } from "./options.js";
import { type GateRequest, removeHeaders } from "./request.js";
import { GatedResponse } from "./response.js";
import type { Revision } from "./revision.js";
import type { GateSessions, Presented } from "./sessions.js";
import { eventTransform, jsonTransform } from "./transforms.js";

/** What is known about a request that is admitted. */
export interface Checked {
  readonly revision: Revision;
  readonly sessionId: string | undefined;
  readonly presented: Presented;
  readonly principal: Principal;
  readonly judged: Judged | undefined;
  readonly validation: Validation;
  /** What the limits say, if the gate takes costs. */
  readonly limits: readonly LimitDecision[] | undefined;
  /** Headers of the response that state the limits. */
  readonly headers: Readonly<Record<string, string>>;
}

/** An admitted request and its response. */
export interface Exchange extends Checked {
  readonly request: GateRequest;
  readonly response: ServerResponse;
}

/** What the gate deals with responses by. */
export interface ResponseTools {
  readonly client: Pick<Client, "guard">;
  readonly sessions: GateSessions;
  readonly settings: GateSettings;
}

/** The code of a JSON-RPC error that ends a stream. */
const STREAM_ENDED = -32001;

/** Binds the session that a response opens, filters its lists, and guards it if it is an event stream. */
export function gateResponse(exchange: Exchange, { client, sessions, settings }: ResponseTools): void {
  const { request, response, revision, sessionId, presented, principal, judged } = exchange;
  const filter = listFilter(exchange, settings);
  // The gate cannot read a compressed list.
  if (filter !== undefined) removeHeaders(request, "accept-encoding");

  async function bind(opened: string): Promise<Rejection | undefined> {
    const rejection = await sessions.bind(opened, presented);
    if (rejection !== undefined) guarded("onUnboundSession", () => settings.onUnboundSession(opened));
    return rejection;
  }

  function onHead(): Promise<Rejection | undefined> | undefined {
    if (filter !== undefined && response.hasHeader("content-encoding")) {
      const error = new TypeError("the response is encoded, so its lists cannot be filtered");
      notify(settings.onError, error);
      return Promise.resolve(undecided(error));
    }
    const opened = response.getHeader("mcp-session-id");
    const isSuccess = response.statusCode < 400;
    if (!revision.hasSessions || !isSuccess) response.removeHeader("mcp-session-id");
    else if (opened !== undefined && opened !== sessionId) return bind(String(opened));
    if (request.method !== "DELETE" || sessionId === undefined || !isSuccess) return undefined;
    return sessions.unbind(sessionId, presented).then(() => undefined);
  }

  function onBody() {
    const type = String(response.getHeader("content-type") ?? "");
    const change = (text: string): string => filter?.filtered(text) ?? text;
    if (/^application\/json\b/i.test(type)) return filter && jsonTransform(change);
    if (!/^text\/event-stream\b/i.test(type)) return undefined;
    const scopes = [...settings.scopes, ...(judged?.decision.needs.flat() ?? [])];
    const end = (reason: StreamEnd): void => gated.finish(lastEvents(request, reason));
    const guard = client.guard(principal, end, { scopes, toleranceMs: settings.toleranceMs });
    if (response.closed) guard.release();
    else response.once("close", () => guard.release());
    return filter && eventTransform(change);
  }

  const gated = new GatedResponse(response, { head: onHead, body: onBody });
}

function listFilter(
  { request, judged, validation }: Exchange,
  { policy, filterLists }: GateSettings,
): ListFilter | undefined {
  if (policy === undefined || !filterLists) return undefined;
  // A stream that is resumed with GET may repeat a list.
  const messages = request.method === "GET" ? undefined : (judged?.messages ?? []);
  const filter = new ListFilter(policy, validation.scopes, messages);
  return filter.isNeeded ? filter : undefined;
}

/** The error responses to the requests that a stream answers; a stream of GET answers none. */
function lastEvents({ body }: GateRequest, { code, detail: message }: StreamEnd): string {
  const messages: unknown[] = Array.isArray(body) ? body : [body];
  return messages
    .map(asObject)
    .filter((request) => typeof request?.method === "string" && idOf(request) !== null)
    .map((request) => {
      const error = { code: STREAM_ENDED, message, data: { code } };
      return `event: message\ndata: ${JSON.stringify({ jsonrpc: "2.0", id: request?.id, error })}\n\n`;
    })
    .join("");
}
