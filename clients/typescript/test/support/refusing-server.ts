import { once } from "node:events";
import { constants, createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

/** A gRPC server that resets its first streams with these codes, and responds to all others with one message. */
export async function refusingServer(
  t: TestContext,
  codes: readonly number[],
  response: Uint8Array,
): Promise<{ readonly endpoint: string; readonly streams: () => number }> {
  let count = 0;
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream: ServerHttp2Stream) => {
    const code = codes[count];
    count += 1;
    stream.on("error", () => undefined);
    if (code !== undefined) {
      stream.close(code);
      return;
    }
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(response.length, 1);
    stream.end(Buffer.concat([head, response]));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}`, streams: () => count };
}

export const { NGHTTP2_REFUSED_STREAM, NGHTTP2_INTERNAL_ERROR } = constants;
