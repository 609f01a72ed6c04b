import { isIP, connect as netConnect, type Socket } from "node:net";
import { type ConnectionOptions, checkServerIdentity, connect as tlsConnect } from "node:tls";
import type { Endpoint } from "./endpoint.js";
import { throughProxy } from "./proxy.js";
import type { Tls } from "./tls.js";

/** The destination of a connection. */
export interface Destination {
  readonly endpoint: Endpoint;
  /** One address of the endpoint's host; unused with a proxy, which resolves the name itself. */
  readonly address: string;
  readonly proxy: URL | undefined;
}

/** Opens a connection for HTTP/2. An abort ends the attempt. */
export async function openSocket(
  to: Destination,
  tls: Tls | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  const { endpoint, address, proxy } = to;
  const plain =
    proxy === undefined ? netConnect(endpoint.port, address) : await throughProxy(proxy, endpoint, signal);
  if (proxy === undefined) await established(plain, "connect", signal);
  plain.setNoDelay(true);
  if (!endpoint.secure) return plain;
  const name = tls?.serverName ?? endpoint.host;
  const options: ConnectionOptions = {
    ...tls?.material(),
    socket: plain,
    ALPNProtocols: ["h2"],
    // SNI allows no IP addresses. The certificate is verified against the address all the same.
    servername: isIP(name) ? "" : name,
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
  };
  const secured = tlsConnect(options);
  try {
    await established(secured, "secureConnect", signal);
  } catch (error) {
    plain.destroy();
    const { message } = error as Error;
    const plaintext = /wrong version number|packet length too long/i.test(message);
    throw new Error(`TLS handshake failed: ${plaintext ? "the port expects plaintext" : message}`);
  }
  if (secured.alpnProtocol === "h2") return secured;
  secured.destroy();
  throw new Error("TLS handshake failed: the server does not support HTTP/2");
}

function established(socket: Socket, event: "connect" | "secureConnect", signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (): void => {
      signal.removeEventListener("abort", aborted);
      socket.removeListener(event, made);
      socket.removeListener("close", closed);
    };
    const made = (): void => {
      over();
      socket.removeListener("error", failed);
      resolve();
    };
    const failed = (error: Error): void => {
      over();
      reject(error);
    };
    const closed = (): void => failed(new Error("the connection was closed before it was established"));
    const aborted = (): void => {
      failed(signal.reason as Error);
      socket.destroy();
    };
    socket.once(event, made);
    // The listener stays after a failure, so that later errors are not unhandled.
    socket.on("error", failed);
    socket.once("close", closed);
    if (signal.aborted) aborted();
    else signal.addEventListener("abort", aborted, { once: true });
  });
}
