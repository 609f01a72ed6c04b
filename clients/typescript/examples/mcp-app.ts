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

/** Adds tools, resources and prompts to a server. */
export type Register = (server: McpServer) => void;

/** Registers the tools of the example. */
export function orderTools(handles: McpHandles): Register {
  const carts = new Map<string, string[]>();
  const text = (content: string) => ({ content: [{ type: "text" as const, text: content }] });
  return (server) => {
    server.registerTool("list_orders", { description: "Lists the orders" }, ({ http }) =>
      text(`orders of ${customer(http).tenantName}: order_1`),
    );
    const order = z.object({ order: z.string() });
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
    const item = z.object({ cart: z.string(), item: z.string() });
    server.registerTool(
      "add_to_cart",
      { description: "Adds an item", inputSchema: item },
      async (given, { http }) => {
        // The cart of another tenant is an unknown handle. The message of the error is the result of the tool.
        await handles.require(customer(http), given.cart, "cart");
        const items = carts.get(given.cart) ?? [];
        carts.set(given.cart, [...items, given.item]);
        return text(`in the cart: ${[...items, given.item].join(", ")}`);
      },
    );
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

/** Returns an application that serves all revisions at `/mcp`, behind a gate that is set later. */
export function mcpApp(register: Register, gate: (app: McpApp) => McpGate | undefined): McpApp {
  const transports = new Map<string, NodeStreamableHTTPServerTransport>();
  const server = (): McpServer => {
    const created = new McpServer(
      { name: "orders", version: "1.0.0" },
      {
        capabilities: { logging: {} },
        cacheHints: { "tools/list": { ttlMs: 60_000, cacheScope: "public" } },
      },
    );
    register(created);
    return created;
  };
  const stateless = toNodeHandler(createMcpHandler(server, { legacy: "reject" }));

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
    await server().connect(transport);
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
  const first = gate(made);
  if (first !== undefined) app.use(first);
  app.all("/mcp", express.json({ limit: "4mb" }), serve);
  return made;
}
