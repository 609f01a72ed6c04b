import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";
import { mcpGate, principalFrom } from "../src/mcp.js";
import { type Application, frameworks, listening, post, rpc } from "./support/gates.js";
import { mcpClients } from "./support/mcp-clients.js";
import { clientOf, startService, withService } from "./support/service.js";

const policy = { tools: { echo: { scopes: ["orders:read"] }, wipe: { scopes: ["admin"] } } };

/** A server of sdk 1.32 with sessions. Its transports read the body themselves. */
function oldServer(called: string[]): Application {
  const transports = new Map<string, StreamableHTTPServerTransport>();
  const opened = async (): Promise<StreamableHTTPServerTransport> => {
    const server = new McpServer({ name: "old", version: "1.0.0" });
    const reply = (text: string) => ({ content: [{ type: "text" as const, text }] });
    server.registerTool("echo", { inputSchema: { text: z.string() } }, ({ text }, { authInfo }) => {
      called.push("echo");
      return reply(`${text} of ${principalFrom(authInfo)?.tenantId}`);
    });
    server.registerTool("wipe", {}, () => {
      called.push("wipe");
      return reply("wiped");
    });
    const transport: StreamableHTTPServerTransport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => void transports.set(id, transport),
      onsessionclosed: (id) => void transports.delete(id),
    });
    await server.connect(transport as Parameters<McpServer["connect"]>[0]);
    return transport;
  };
  const serve: (...given: Parameters<Application>) => Promise<void> = async (request, response) => {
    const sessionId = request.headers["mcp-session-id"] as string | undefined;
    const transport = transports.get(sessionId ?? "") ?? (await opened());
    await transport.handleRequest(request as Parameters<typeof transport.handleRequest>[0], response);
  };
  return (request, response) => void serve(request, response);
}

async function serving(t: TestContext, framework: (typeof frameworks)[number][1]) {
  const { endpoint } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const { admin } = client.raw;
  for (const tenantId of ["acme", "globex"])
    await admin.createTenant({ tenantId, name: tenantId, plan: "pro" });
  const issue = async (tenantId: string): Promise<string> =>
    (await admin.issueKey({ tenantId, name: "a test", scopes: ["orders:read"] })).plaintext;
  const called: string[] = [];
  const gate = mcpGate(client, { policy, header: ["authorization", "x-api-key"] });
  const url = await listening(t, framework(gate, oldServer(called)));
  return { url, called, key: await issue("acme"), foreign: await issue("globex") };
}

for (const [name, framework] of frameworks) {
  test(`mcp: ${name}: a server of sdk 1.32 works behind the gate`, withService, async (t) => {
    const { url, called, key, foreign } = await serving(t, framework);
    for (const [, connect, hasSessions] of mcpClients.filter(([, , sessions]) => sessions)) {
      const client = await connect(t, url, key);
      assert.equal(client.sessionId !== undefined, hasSessions);
      assert.deepEqual(await client.tools(), ["echo"]);
      assert.equal(await client.call("echo", { text: "hello" }), "hello of acme");
      await assert.rejects(
        client.call("wipe"),
        /The API key lacks a scope|Insufficient scope: required "admin"/,
      );
      const session = { "mcp-session-id": client.sessionId ?? "" };
      assert.equal((await post(url, rpc("ping"), session, key)).status, 200);
      assert.equal((await post(url, rpc("ping"), session, foreign)).status, 404);
      await client.end();
      assert.equal((await post(url, rpc("ping"), session, key)).status, 404);
    }
    // It does not know the revision without sessions, so the client falls back or fails; no tool runs unchecked.
    const lie = { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo" };
    assert.equal((await post(url, rpc("tools/call", { name: "wipe" }), lie, key)).status, 400);
    assert.deepEqual(called, ["echo", "echo"]);
  });
}
