import { request } from "node:http";
import { isIP, type Socket } from "node:net";
import { getProxyForUrl } from "proxy-from-env";
import type { Endpoint } from "./endpoint.js";

/** Returns the proxy of the environment variables for an endpoint; never for loopback and cluster-local names. */
export function environmentProxy({ host, authority, secure }: Endpoint): URL | undefined {
  const inCluster =
    !isIP(host) && (!host.includes(".") || /\.(svc|local|internal|localhost)\.?$/i.test(host));
  const loopback = /^127\./.test(host) || host === "::1" || /\.svc\./i.test(host);
  if (inCluster || loopback) return undefined;
  const proxy = getProxyForUrl(`${secure ? "https" : "http"}://${authority}`);
  if (proxy === "") return undefined;
  const url = URL.canParse(proxy) ? new URL(proxy) : undefined;
  // The value is not shown because it may contain a password.
  if (url?.protocol !== "http:") throw new TypeError("the proxy of the environment must be http://host:port");
  return url;
}

/** Opens a connection to an endpoint through a proxy, with HTTP CONNECT. */
export function throughProxy(proxy: URL, { authority }: Endpoint, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
    const connecting = request({
      method: "CONNECT",
      host: proxy.hostname.replace(/^\[|\]$/g, ""),
      port: proxy.port || 80,
      path: authority,
      headers: {
        host: authority,
        ...(proxy.username && {
          "proxy-authorization": `Basic ${Buffer.from(credentials).toString("base64")}`,
        }),
      },
      agent: false,
      signal,
    });
    connecting.once("connect", (response, socket, head) => {
      if (response.statusCode === 200) {
        // Data of the server that arrived with the proxy's response.
        if (head.length > 0) socket.unshift(head);
        return resolve(socket);
      }
      socket.destroy();
      reject(new Error(`the proxy responded with ${response.statusCode}`));
    });
    connecting.once("response", (response) => {
      response.destroy();
      reject(new Error(`the proxy responded with ${response.statusCode}`));
    });
    connecting.once("error", reject);
    connecting.end();
  });
}
