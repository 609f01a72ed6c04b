/** The MCP server of the example: two tools for customers, and a cart that a handle names. */
import { randomUUID } from "node:crypto";
import { localhostHostValidation, localhostOriginValidation } from "@modelcontextprotocol/express";
import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from "@modelcontextprotocol/node";
import {
  createMcpHandler,
  isInitializeRequest,
  isLegacyRequest,
  McpServer,
} from "@modelcontextprotocol/server";
import { type McpGate, type McpHandles, type McpPolicy, principalFrom } from "@tenant-auth/client/mcp";
import express, { type Express, type Request, type RequestHandler, type Response } from "express";
import { z } from "zod";

/** Which keys may use what. Refunds are recorded as usage of the tenant. */
export const policy: McpPolicy = {
  tools: {
    list_orders: { scopes: ["orders:read"] },
    refund_order: { scopes: ["orders:write"], usage: { metric: "mcp.tool_calls" } },
    open_cart: { scopes: ["orders:write"] },
    add_to_cart: { scopes: ["orders:write"] },
  },
};

/** Returns a function that makes the server of the example, one for each session or request. */
export function orderServers(handles: McpHandles): () => McpServer {
  const carts = new Map<string, string[]>();
  const text = (content: string) => ({ content: [{ type: "text" as const, text: content }] });
  const order = z.object({ order: z.string() });
  const item = z.object({ cart: z.string(), item: z.string() });
  return () => {
    const server = new McpServer(
      { name: "orders", version: "1.0.0" },
      { cacheHints: { "tools/list": { ttlMs: 60_000, cacheScope: "public" } } },
    );
    server.registerTool("list_orders", { description: "Lists the orders" }, ({ http }) =>
      text(`orders of ${customer(http).tenantName}: order_1`),
    );
    server.registerTool(
      "refund_order",
      { description: "Refunds an order", inputSchema: order },
      (given, { http }) => text(`refunded ${given.order} of ${customer(http).tenantName}`),
    );
    server.registerTool("open_cart", { description: "Opens a cart" }, async ({ http }) => {
      const cart = await handles.mint(customer(http), "cart");
      carts.set(cart, []);
      return text(cart);
    });
    server.registerTool(
      "add_to_cart",
      { description: "Adds an item to a cart", inputSchema: item },
      async (given, { http }) => {
        // The cart of another tenant is an unknown handle. The message of the error is the result of the tool.
        await handles.require(customer(http), given.cart, "cart");
        const items = [...(carts.get(given.cart) ?? []), given.item];
        carts.set(given.cart, items);
        return text(`in the cart: ${items.join(", ")}`);
      },
    );
    return server;
  };
}

function customer(http: { readonly authInfo?: Parameters<typeof principalFrom>[0] } | undefined) {
  const principal = principalFrom(http?.authInfo);
  if (principal === undefined) throw new Error("a tool was called without the gate");
  return principal;
}

/** The application, and what it serves. */
export interface McpApp {
  readonly app: Express;
  /** Ends a session that the gate did not bind. */
  readonly endSession: (sessionId: string) => void;
}

/** Returns an application that serves all revisions at `/mcp`, behind the gate that `gateOf` returns. */
export function mcpApp(makeServer: () => McpServer, gateOf: (app: McpApp) => McpGate | undefined): McpApp {
  const transports = new Map<string, NodeStreamableHTTPServerTransport>();
  const stateless = toNodeHandler(createMcpHandler(makeServer, { legacy: "reject" }));

  /** Serves the revisions with sessions. */
  async function withSessions(request: Request, response: Response): Promise<void> {
    const sessionId = request.get("mcp-session-id");
    const open = transports.get(sessionId ?? "");
    if (open !== undefined) return await open.handleRequest(request, response, request.body);
    if (sessionId !== undefined || !isInitializeRequest(request.body)) {
      response.status(sessionId === undefined ? 400 : 404).json({ error: "no such session on this replica" });
      return;
    }
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void transports.set(id, transport),
      onsessionclosed: (id) => void transports.delete(id),
    });
    await makeServer().connect(transport);
    await transport.handleRequest(request, response, request.body);
  }

  const serve: RequestHandler = async (request, response) => {
    const probe = await toWebRequest(request, request.body);
    if (await isLegacyRequest(probe, request.body)) await withSessions(request, response);
    else await stateless(request, response, request.body);
  };

  const app = express();
  const made: McpApp = {
    app,
    endSession: (id) => {
      void transports.get(id)?.close();
      transports.delete(id);
    },
  };
  // Only this machine is served.
  app.use(localhostHostValidation(), localhostOriginValidation());
  const gate = gateOf(made);
  if (gate !== undefined) app.use(gate);
  app.all("/mcp", express.json({ limit: "4mb" }), serve);
  return made;
}
