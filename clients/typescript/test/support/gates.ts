import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import express, { type Express } from "express";
import express4 from "express4";
import type { McpGate, WithExtra } from "../../src/mcp.js";

/** What the gate leaves in a request. */
export type Gated = IncomingMessage & {
  readonly body?: unknown;
  readonly auth?: WithExtra;
};

/** A server behind the gate. */
export type Application = (request: Gated, response: ServerResponse) => void;

/** Listens on a loopback port until the test ends, and returns the URL of the MCP endpoint. */
export async function listening(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

const withExpress =
  (make: () => Express) =>
  (gate: McpGate, application: Application): RequestListener => {
    const app = make();
    app.use(gate);
    app.all("/mcp", application);
    return app as RequestListener;
  };

const withNode =
  (gate: McpGate, application: Application): RequestListener =>
  (request, response) => {
    gate(request, response, (error) => {
      if (error === undefined) return application(request, response);
      response.statusCode = 500;
      response.end();
    });
  };

/** Every way to put a gate in front of an application. */
export const frameworks = [
  ["Express 5", withExpress(express)],
  ["Express 4", withExpress(express4 as unknown as () => Express)],
  ["node:http", withNode],
] as const;

/** A request of an MCP client. */
export function rpc(method: string, params?: object, id: number | null = 1): object {
  return {
    jsonrpc: "2.0",
    ...(id === null ? {} : { id }),
    method,
    ...(params === undefined ? {} : { params }),
  };
}

/** Posts a message with a key. */
export async function post(
  url: string,
  message: unknown,
  headers: Readonly<Record<string, string>> = {},
  key = "ta_key",
): Promise<Response> {
  const body = typeof message === "string" ? message : JSON.stringify(message);
  const accept = "application/json, text/event-stream";
  const all = { authorization: `Bearer ${key}`, "content-type": "application/json", accept, ...headers };
  return await fetch(url, { method: "POST", headers: all, body });
}
