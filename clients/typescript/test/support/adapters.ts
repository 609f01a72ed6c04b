import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import express, { type Express, type RequestHandler } from "express";
import express4 from "express4";
import fastify from "fastify";
import type { Client } from "../../src/client.js";
import { requireKey as expressRequireKey } from "../../src/express.js";
import { requireKey as fastifyRequireKey } from "../../src/fastify.js";
import type { RequireKeyOptions } from "../../src/http/admit.js";
import type { LimitDecision } from "../../src/limits/decision.js";

/**
 * Starts a server with an adapter and returns its URL. It responds with the principal, or "nobody", and with the names of
 * the limits as a header.
 */
export type Server = (t: TestContext, client: Client, options: RequireKeyOptions) => Promise<string>;

/** Listens on a loopback port until the test ends, and returns the URL. */
export async function listening(t: TestContext, app: Express): Promise<string> {
  const server = app.listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function namesOf(limits: readonly LimitDecision[]): string {
  return limits.map(({ name }) => name).join();
}

const respond: RequestHandler = (request, response) => {
  if (request.clientAddress !== undefined) response.setHeader("client-address", request.clientAddress);
  if (request.limits !== undefined) response.setHeader("limits", namesOf(request.limits));
  response.json(request.principal ?? "nobody");
};

const withExpress =
  (make: () => Express): Server =>
  async (t, client, options) => {
    const app = make();
    app.use(expressRequireKey(client, options), respond);
    return await listening(t, app);
  };

const withFastify: Server = async (t, client, options) => {
  const app = fastify();
  app.addHook("onRequest", fastifyRequireKey(client, options));
  app.all("/*", async (request, reply) => {
    if (request.clientAddress !== undefined) reply.header("client-address", request.clientAddress);
    if (request.limits !== undefined) reply.header("limits", namesOf(request.limits));
    return request.principal ?? JSON.stringify("nobody");
  });
  t.after(() => app.close());
  return await app.listen({ port: 0, host: "127.0.0.1" });
};

/** Every framework with an adapter. */
export const servers = [
  ["Express 5", withExpress(express)],
  ["Express 4", withExpress(express4 as unknown as () => Express)],
  ["Fastify", withFastify],
] as const satisfies readonly (readonly [string, Server])[];
