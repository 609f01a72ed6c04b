/**
 * An MCP server for customers with API keys: run `npm run example:mcp`, then connect to http://127.0.0.1:3000/mcp with
 * the header `authorization: Bearer <key>`, or `x-api-key: <key>`. The scope `orders:read` lists orders, `orders:write`
 * refunds them; each key sees the tools that it may call. The demo key of `tenant-auth-svc dev` may do neither; issue one
 * for it: `tenantctl key issue --tenant ten_demo --scope orders:read --scope orders:write`.
 */
import type { AddressInfo } from "node:net";
import { Client } from "@tenant-auth/client";
import { McpHandles, mcpGate } from "@tenant-auth/client/mcp";
import { mcpApp, orderServers, policy } from "./mcp-app.js";

const client = new Client(process.env.TENANT_AUTH_ENDPOINTS ?? "127.0.0.1:50051", {
  userAgent: "mcp-example/1.0",
});
const usage = client.usageRecorder();
const { app } = mcpApp(orderServers(new McpHandles(client)), ({ endSession }) =>
  mcpGate(client, {
    policy,
    usage,
    header: ["authorization", "x-api-key"],
    onUnboundSession: endSession,
  }),
);

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
