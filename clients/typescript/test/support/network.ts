import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";

/** Forwards to an endpoint with a delay in each direction. Has its own endpoint. */
export async function delayed(t: TestContext, endpoint: string, oneWayMs: number): Promise<string> {
  const sockets = new Set<Socket>();
  const { hostname, port } = new URL(`http://${endpoint}`);
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on("data", (data) => setTimeout(() => to.write(data), oneWayMs));
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  return await listening(t, server, sockets);
}

/** An HTTP CONNECT proxy that forwards everything to one endpoint and records the requested targets. */
export async function connectProxy(
  t: TestContext,
  endpoint: string,
): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const { hostname, port } = new URL(`http://${endpoint}`);
  const server = createHttpServer();
  server.on("connect", (request, near: Socket) => {
    asked.push(`${request.url} ${request.headers["proxy-authorization"] ?? "anonymous"}`);
    const far = connect(Number(port), hostname, () => {
      near.write("HTTP/1.1 200 Connection established\r\n\r\n");
      near.pipe(far).pipe(near);
    });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
    }
  });
  return { url: `http://user:pass@${await listening(t, server, sockets)}`, asked };
}

async function listening(
  t: TestContext,
  server: ReturnType<typeof createServer>,
  sockets: ReadonlySet<Socket>,
): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Sets environment variables until the test ends; `undefined` removes one. */
export function environment(t: TestContext, variables: Readonly<Record<string, string | undefined>>): void {
  const set = (name: string, value: string | undefined): void => {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name];
    t.after(() => set(name, before));
    set(name, value);
  }
}
