import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import express from "express";
import fastify from "fastify";
import { WebSocket, WebSocketServer } from "ws";
import type { Client } from "../src/client.js";
import { DeniedError } from "../src/denied.js";
import { TenantAuthError } from "../src/error.js";
import { requireKey as expressRequireKey } from "../src/express.js";
import { requireKey as fastifyRequireKey } from "../src/fastify.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import type { Principal } from "../src/principal.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { InvalidationScope } from "./support/fake-watch.js";
import { listening } from "./support/gates.js";
import { until } from "./support/until.js";
import { heartbeat, watched } from "./support/watched.js";

const { validateKey } = ValidationService.method;

async function setup(t: TestContext) {
  const made = await watched(t);
  const { fake, watch, client, clock } = made;
  const timers = clock.waiting;
  const revoke = (): void => {
    fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.REVOKED, revision: 11n }));
    watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  };
  /** Whether no guard is left: the only timer is that of the watch stream. */
  const released = async (): Promise<void> => {
    await until("the guard is released", () => clock.waiting <= timers);
    const before = fake.calls.length;
    watch.invalidate(InvalidationScope.KEY, "key_1", 12n);
    await heartbeat(client, watch, 13n);
    assert.equal(fake.calls.length, before);
  };
  return { ...made, principal: await client.requireKey("1"), revoke, released };
}

/** Counts up until it is stopped. */
async function* counting(stopped: () => void): AsyncGenerator<number> {
  try {
    for (let at = 1; ; at += 1) yield at;
  } finally {
    stopped();
  }
}

test("guard: an iterable ends with the verdict, also while it waits", async (t) => {
  const { client, principal, revoke, released } = await setup(t);
  let next: (value: IteratorResult<number>) => void = () => undefined;
  let returned = 0;
  const source: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise((resolve) => (next = resolve)),
      return: async () => {
        returned += 1;
        return { done: true, value: undefined };
      },
    }),
  };
  const guarded = client.guard(principal, source);
  const first = guarded.next();
  next({ done: false, value: 1 });
  assert.deepEqual(await first, { done: false, value: 1 });
  const waiting = guarded.next();
  revoke();
  await assert.rejects(waiting, (error) => error instanceof DeniedError && error.verdict === "REVOKED");
  assert.equal(returned, 1);
  assert.deepEqual(await guarded.next(), { done: true, value: undefined });
  await released();
});

test("guard: an iterable that is left or exhausted releases its guard", async (t) => {
  const { client, principal, released } = await setup(t);
  let stopped = 0;
  for await (const at of client.guard(
    principal,
    counting(() => (stopped += 1)),
  ))
    if (at === 3) break;
  assert.equal(stopped, 1);
  await released();
  const seen: number[] = [];
  async function* few(): AsyncGenerator<number> {
    yield* [1, 2];
  }
  for await (const at of client.guard(principal, few())) seen.push(at);
  assert.deepEqual(seen, [1, 2]);
  await released();
  async function* failing(): AsyncGenerator<number> {
    yield 1;
    throw new RangeError("of the source");
  }
  await assert.rejects(async () => {
    for await (const _ of client.guard(principal, failing()));
  }, RangeError);
  await released();
});

test("guard: a web stream ends with the verdict, and nothing is read ahead", async (t) => {
  const { client, principal, revoke, released } = await setup(t);
  let pulled = 0;
  let cancelled: unknown;
  const source = new ReadableStream<number>(
    {
      pull: (controller) => {
        pulled += 1;
        controller.enqueue(pulled);
      },
      cancel: (reason) => {
        cancelled = reason;
      },
    },
    { highWaterMark: 0 },
  );
  const reader = client.guard(principal, source).getReader();
  assert.equal(pulled, 0);
  assert.deepEqual(await reader.read(), { done: false, value: 1 });
  assert.equal(pulled, 1);
  revoke();
  await assert.rejects(reader.closed, (error) => error instanceof DeniedError && error.verdict === "REVOKED");
  await assert.rejects(reader.read(), DeniedError);
  assert.ok(cancelled instanceof DeniedError);
  await released();
  const left = client.guard(principal, new ReadableStream<number>({ pull: (c) => c.enqueue(1) })).getReader();
  await left.read().catch(() => undefined);
  await left.cancel().catch(() => undefined);
  await released();
});

/** Starts an event stream, which a test ends. */
const streaming =
  (client: Client, type = "text/event-stream") =>
  (principal: Principal | undefined, response: ServerResponse): void => {
    response.setHeader("content-type", type);
    response.writeHead(200, { "cache-control": "no-store" });
    response.write("data: 1\n\n");
    client.guard(principal as Principal, response);
  };

const adapters = [
  [
    "Express",
    async (t: TestContext, client: Client, start: ReturnType<typeof streaming>) => {
      const app = express();
      app.get("/mcp", expressRequireKey(client), (request, response) => start(request.principal, response));
      return await listening(t, app);
    },
  ],
  [
    "Fastify",
    async (t: TestContext, client: Client, start: ReturnType<typeof streaming>) => {
      const app = fastify();
      app.get("/mcp", { onRequest: fastifyRequireKey(client) }, (request, reply) => {
        reply.hijack();
        start(request.principal, reply.raw);
      });
      t.after(() => app.close());
      return `${await app.listen({ port: 0, host: "127.0.0.1" })}/mcp`;
    },
  ],
] as const;

for (const [name, serve] of adapters) {
  test(`guard: ${name}: an event stream ends with an event that says why`, async (t) => {
    const { client, revoke, released } = await setup(t);
    const url = await serve(t, client, streaming(client));
    const response = await fetch(url, { headers: { authorization: "Bearer 1" } });
    revoke();
    const end = { code: "REVOKED", detail: "The API key was revoked." };
    assert.equal(await response.text(), `data: 1\n\nevent: end\ndata: ${JSON.stringify(end)}\n\n`);
    await released();
  });

  test(`guard: ${name}: another response breaks off, and a client that leaves releases the guard`, async (t) => {
    const { client, revoke, released } = await setup(t);
    const url = await serve(t, client, streaming(client, "text/plain"));
    const headers = { authorization: "Bearer 1" };
    const leaving = new AbortController();
    await fetch(url, { headers, signal: leaving.signal });
    leaving.abort();
    await released();
    const response = await fetch(url, { headers });
    revoke();
    await assert.rejects(response.text());
  });
}

test("guard: an application that writes after the end does no harm", async (t) => {
  const { client, principal, revoke } = await setup(t);
  const written: boolean[] = [];
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
    client.guard(principal, response);
    response.once("finish", () => written.push(response.write("data: late\n\n")));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  revoke();
  assert.doesNotMatch(await response.text(), /late/);
  assert.deepEqual(written, [false]);
});

/** Returns a function that connects to a server whose sockets are guarded; the second socket is the server's. */
async function guardedSockets(
  t: TestContext,
  client: Client,
  principal: Principal,
): Promise<() => Promise<[WebSocket, WebSocket]>> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  t.after(() => server.close());
  server.on("connection", (socket) => client.guard(principal, socket));
  return async () => {
    const connected = once(server, "connection");
    const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    await once(socket, "open");
    const [guarded] = (await connected) as [WebSocket];
    return [socket, guarded];
  };
}

test("guard: a WebSocket is closed with the verdict, and one that is left releases its guard", async (t) => {
  const { client, principal, revoke, released } = await setup(t);
  const connect = await guardedSockets(t, client, principal);
  const [socket] = await connect();
  revoke();
  const [code, reason] = (await once(socket, "close")) as [number, Buffer];
  assert.deepEqual([code, String(reason)], [1008, "REVOKED"]);
  const [leaving] = await connect();
  leaving.close();
  await released();
});

test("guard: a WebSocket without a decision is closed, so that its client tries again", async (t) => {
  const { fake, client, clock, watch, principal } = await setup(t);
  const connect = await guardedSockets(t, client, principal);
  const [socket, guarded] = await connect();
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  const closed = once(socket, "close");
  await until("it is validated again", () => fake.calls.length > 1);
  await until("it is closed", () => {
    if (guarded.readyState === WebSocket.OPEN) clock.advance(50);
    return guarded.readyState !== WebSocket.OPEN;
  });
  const [code, reason] = (await closed) as [number, Buffer];
  assert.deepEqual([code, String(reason)], [1013, "UNDECIDED"]);
});

test("guard: a WebSocket that does not close by itself is terminated", async (t) => {
  const { client, clock, principal, revoke } = await setup(t);
  const asked: unknown[] = [];
  let terminated = 0;
  client.guard(principal, {
    close: (...given: unknown[]) => asked.push(given),
    terminate: () => (terminated += 1),
    addEventListener: () => undefined,
  });
  revoke();
  await until("it is closed", () => asked.length > 0);
  assert.deepEqual(asked, [[1008, "REVOKED"]]);
  clock.advance(999);
  assert.equal(terminated, 0);
  clock.advance(1);
  assert.equal(terminated, 1);
});

test("guard: a failed validation of a web stream is no denial", async (t) => {
  const { fake, client, watch, clock, principal } = await setup(t);
  const reader = client
    .guard(principal, new ReadableStream<number>({ start: (c) => c.enqueue(1) }))
    .getReader();
  await reader.read();
  fake.answer(validateKey, () => Promise.reject(unavailable()));
  watch.invalidate(InvalidationScope.KEY, "key_1", 11n);
  let error: unknown;
  reader.closed.catch((reason: unknown) => {
    error = reason;
  });
  await until("it has ended", () => {
    clock.advance(50);
    return error !== undefined;
  });
  assert.ok(error instanceof TenantAuthError);
});
