/**
 * An HTTP API for customers with API keys: run `npm run example:http`, then
 *
 *   curl -H "authorization: Bearer $(cat .tenant-auth/demo-key)" http://127.0.0.1:3000/orders
 */
import type { AddressInfo } from "node:net";
import { Client } from "@tenant-auth/client";
import { requireKey } from "@tenant-auth/client/express";
import express from "express";

const client = new Client(process.env.TENANT_AUTH_ENDPOINTS ?? "127.0.0.1:50051", {
  userAgent: "orders-example/1.0",
});

const app = express();

app.get("/orders", requireKey(client, { scopes: ["demo:read"] }), (request, response) => {
  response.json({ orders: [], of: request.principal?.tenantName });
});

app.post("/orders", requireKey(client, { scopes: ["demo:write"] }), (request, response) => {
  response.status(201).json({ id: "order_1", of: request.principal?.tenantName });
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

process.once("SIGTERM", () => {
  server.close(() => client.close());
});
