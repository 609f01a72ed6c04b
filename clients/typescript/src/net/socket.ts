import { isIP, connect as netConnect, type Socket } from "node:net";
import { type ConnectionOptions, checkServerIdentity, connect as tlsConnect } from "node:tls";
import type { Endpoint } from "./endpoint.js";
import { throughProxy } from "./proxy.js";
import type { Tls } from "./tls.js";

/** Where a connection goes. */
export interface Destination {
  readonly endpoint: Endpoint;
  /** One address of the endpoint's host; unused with a proxy, which looks the name up itself. */
  readonly address: string;
  readonly proxy: URL | undefined;
}

/** A connection that HTTP/2 can be spoken on. An abort ends it while it is being made. */
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
    // An address is no name to ask for; whether the certificate bears it is checked all the same.
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
    throw new Error(`the TLS handshake failed: ${plaintext ? "the port speaks plaintext" : message}`);
  }
  if (secured.alpnProtocol === "h2") return secured;
  secured.destroy();
  throw new Error("the TLS handshake failed: the other side does not speak HTTP/2");
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
    const closed = (): void => failed(new Error("the connection was closed while it was being made"));
    const aborted = (): void => {
      failed(signal.reason as Error);
      socket.destroy();
    };
    socket.once(event, made);
    // Stays after a failure: what comes after it is nobody's any more.
    socket.on("error", failed);
    socket.once("close", closed);
    if (signal.aborted) aborted();
    else signal.addEventListener("abort", aborted, { once: true });
  });
}
