import { isIP } from "node:net";
import {
  type ChannelCredentials,
  type ChannelOptions,
  connectivityState,
  credentials,
  Client as GrpcClient,
} from "@grpc/grpc-js";
import { TenantAuthError } from "../error.js";

/** How the connections are secured: PEM texts. */
export interface TlsOptions {
  /** Certificates to trust instead of the machine's own roots. */
  readonly rootCertificates?: string | Buffer;
  /** This client's certificate, for a service that asks for one. */
  readonly certificate?: string | Buffer;
  /** The private key of `certificate`. */
  readonly privateKey?: string | Buffer;
  /** The name that the service's certificate must bear, if it is not that of the endpoint. */
  readonly serverName?: string;
}

/** What every connection has in common. */
export interface ConnectionOptions {
  readonly tls?: TlsOptions | boolean;
  readonly userAgent: string;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** One named place where the service answers; a name may stand for many addresses. */
interface Endpoint {
  readonly target: string;
  readonly secure: boolean;
}

/** gRPC's own way to spread calls over the addresses that a name resolves to. */
const ROUND_ROBIN = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });

/** The connections to all endpoints, and whose turn it is. */
export class Endpoints {
  readonly #clients: readonly GrpcClient[];
  #turn = 0;
  #closed = false;

  constructor(endpoints: readonly string[], options: ConnectionOptions) {
    if (endpoints.length === 0) throw new TypeError("endpoints must name at least one");
    const parsed = endpoints.map((endpoint) => parse(endpoint, options.tls));
    this.#clients = parsed.map(({ target, secure }) => {
      return new GrpcClient(target, channelCredentials(secure, options.tls), channelOptions(options));
    });
  }

  /**
   * The next one in turn that is connected; if none is, the next one that may become so; if all are known to be down,
   * the next one, to hear what is wrong. Looking at one makes it connect.
   */
  next(): GrpcClient {
    if (this.#closed) throw new TenantAuthError("CANCELLED", "the client is closed");
    const states = this.#clients.map((_, step) => this.#at(step).getChannel().getConnectivityState(true));
    const connected = states.indexOf(connectivityState.READY);
    const hopeful = states.findIndex((state) => state !== connectivityState.TRANSIENT_FAILURE);
    const chosen = this.#turn + Math.max(0, connected === -1 ? hopeful : connected);
    this.#turn = (chosen + 1) % this.#clients.length;
    return this.#clients[chosen % this.#clients.length] as GrpcClient;
  }

  /** Calls under way go on; there are no new ones. */
  close(): void {
    this.#closed = true;
    for (const client of this.#clients) client.close();
  }

  /** The one that is so many steps after the one whose turn it is. */
  #at(step: number): GrpcClient {
    return this.#clients[(this.#turn + step) % this.#clients.length] as GrpcClient;
  }
}

function parse(endpoint: string, tls: TlsOptions | boolean | undefined): Endpoint {
  const unusable = (why: string): TypeError => new TypeError(`endpoint ${JSON.stringify(endpoint)} ${why}`);
  const match = /^(?:(https?):\/\/)?((?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?)\/?$/.exec(endpoint);
  if (match === null) throw unusable("must be host:port, http://host:port or https://host:port");
  const [, scheme, authority = ""] = match;
  if (scheme === "http" && tls) throw unusable("is plaintext, but tls is set");
  const secure = scheme === "https" || (scheme === undefined && tls !== undefined && tls !== false);
  const { hostname, port } = new URL(`${secure ? "https" : "http"}://${authority}`);
  const place = `${hostname}:${port || (secure ? 443 : 80)}`;
  return { target: `${resolver(hostname)}:${place}`, secure };
}

function resolver(hostname: string): string {
  if (hostname.startsWith("[")) return "ipv6";
  return isIP(hostname) === 4 ? "ipv4" : "dns";
}

function channelCredentials(secure: boolean, tls: TlsOptions | boolean | undefined): ChannelCredentials {
  if (!secure) return credentials.createInsecure();
  const { rootCertificates, certificate, privateKey } = typeof tls === "object" ? tls : {};
  if ((certificate === undefined) !== (privateKey === undefined)) {
    throw new TypeError("tls.certificate and tls.privateKey go together");
  }
  return credentials.createSsl(bytes(rootCertificates), bytes(privateKey), bytes(certificate));
}

function bytes(pem: string | Buffer | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem);
}

function channelOptions(options: ConnectionOptions): ChannelOptions {
  const serverName = typeof options.tls === "object" ? options.tls.serverName : undefined;
  return {
    "grpc.primary_user_agent": options.userAgent,
    // Proxies of the environment would be given customers' keys, and the caller's token.
    "grpc.enable_http_proxy": 0,
    "grpc.keepalive_time_ms": options.keepaliveIntervalMs,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.service_config": ROUND_ROBIN,
    "grpc.service_config_disable_resolution": 1,
    // A replica that is back after a restart is to be used again soon, and a watch resumed before it counts as broken.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
    "grpc.dns_min_time_between_resolutions_ms": 5000,
    "grpc.max_receive_message_length": 16 * 1024 * 1024,
    // Connections of one client are not shared with another's: closing one must not depend on the other.
    "grpc.use_local_subchannel_pool": 1,
    ...(serverName === undefined
      ? {}
      : { "grpc.ssl_target_name_override": serverName, "grpc.default_authority": serverName }),
  };
}
