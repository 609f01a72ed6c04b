/**
 * An MCP server for customers with API keys: run `npm run example:mcp`, then connect to http://127.0.0.1:3000/mcp with
 * the header `authorization: Bearer <key>`.
 *
 * A session is bound to the key's tenant when it is opened. Later requests are rejected unless their key belongs to the
 * same tenant. Each tool call is recorded as usage of the tenant.
 */
import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { isInitializeRequest } from "@modelcontextprotocol/sdk/types.js";
import { Client } from "@tenant-auth/client";
import { clientAddressFrom, principalFrom, requireBearerAuth, requireSession } from "@tenant-auth/client/mcp";
import express, { type Request, type Response } from "express";
import { z } from "zod";

const SESSION_TTL_MS = 24 * 3600 * 1000;

const client = new Client(process.env.TENANT_AUTH_ENDPOINTS ?? "127.0.0.1:50051", {
  userAgent: "mcp-example/1.0",
});
const usage = client.usageRecorder();
const transports = new Map<string, StreamableHTTPServerTransport>();

function tools(): McpServer {
  const server = new McpServer({ name: "word-counter", version: "1.0.0" });
  const tool = { description: "Counts the words of a text", inputSchema: { text: z.string() } };
  server.registerTool("count_words", tool, ({ text }, { authInfo }) => {
    const words = text.split(/\s+/).filter(Boolean).length;
    const principal = principalFrom(authInfo);
    if (principal === undefined) throw new Error("a tool was called without a principal");
    usage.record(principal.tenantId, "mcp.tool_calls", 1);
    return { content: [{ type: "text", text: `${words} words, counted for ${principal.tenantName}` }] };
  });
  return server;
}

/** Binds the session before it opens it, so that no session exists without an owner. */
async function open(request: Request, response: Response): Promise<void> {
  const sessionId = randomUUID();
  const key = request.auth?.token ?? "";
  const name = String(request.body.params?.clientInfo?.name ?? "");
  // The client name is untrusted. Attributes must contain no control characters and no surrounding whitespace.
  const attributes = {
    client: name
      .replace(/[^ -~]/g, "?")
      .trim()
      .slice(0, 64)
      .trimEnd(),
  };
  const binding = await client.sessions.bind({
    sessionId,
    key,
    ttlMs: SESSION_TTL_MS,
    sliding: true,
    attributes,
    clientAddress: clientAddressFrom(request.auth),
  });
  if (binding.verdict !== "VALID") {
    response
      .status(403)
      .json({ error: "session_not_bound", message: `the session was not bound: ${binding.verdict}` });
    return;
  }
  const tenantId = principalFrom(request.auth)?.tenantId ?? "";
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => sessionId,
    onsessioninitialized: () => void transports.set(sessionId, transport),
    onsessionclosed: async () => {
      transports.delete(sessionId);
      await client.sessions.unbind(sessionId, tenantId);
    },
  });
  await tools().connect(transport as Parameters<McpServer["connect"]>[0]);
  await transport.handleRequest(request, response, request.body);
}

async function mcp(request: Request, response: Response): Promise<void> {
  const sessionId = request.headers["mcp-session-id"];
  const transport = transports.get(String(sessionId));
  if (transport !== undefined) await transport.handleRequest(request, response, request.body);
  else if (sessionId !== undefined)
    response.status(404).json({ error: "no_session", message: "the session is not on this replica" });
  else if (isInitializeRequest(request.body)) await open(request, response);
  else response.status(400).json({ error: "no_session", message: "the first request must be initialize" });
}

const app = express();
// No middleware reads the request body before authentication. Browsers are not served, so preflight requests are
// rejected.
app.all(
  "/mcp",
  requireBearerAuth(client, { allowPreflight: false }),
  requireSession(client),
  express.json(),
  mcp,
);
app.use((error: { status?: number }, _request: Request, response: Response, _next: unknown) => {
  if (error.status !== undefined && error.status < 500) {
    response.status(error.status).json({ error: "bad_request", message: "the body is malformed" });
    return;
  }
  console.error(error);
  response.status(503).set("retry-after", "1").json({ error: "unavailable", message: "try again" });
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`);
});

process.once("SIGTERM", async () => {
  server.close();
  server.closeAllConnections();
  const unsent = await usage.close();
  for (const { requestId, events } of unsent)
    console.error(`usage not recorded: ${events.length} events with request id ${requestId}`);
  client.close();
});
