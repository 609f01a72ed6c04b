import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { warn } from "../warning.js";

/** TLS options. Each part is PEM, or a file that is read again for each new connection. */
export interface TlsOptions {
  /** Trusted certificates, instead of the system roots. */
  readonly ca?: string | Uint8Array;
  /** A file with `ca`. */
  readonly caFile?: string;
  /** This client's certificate and its chain, for a service that requires one. */
  readonly cert?: string | Uint8Array;
  /** A file with `cert`. */
  readonly certFile?: string;
  /** The private key of `cert`. */
  readonly key?: string | Uint8Array;
  /** A file with `key`. */
  readonly keyFile?: string;
  /** The name that the service's certificate must be valid for, if it is not the endpoint's host. */
  readonly serverName?: string;
}

/** The parts of a TLS configuration. */
export interface TlsMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

const PARTS = ["ca", "cert", "key"] as const;
const KNOWN: readonly string[] = [...PARTS, ...PARTS.map((part) => `${part}File`), "serverName"];
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Validated TLS options. No error shows a key. */
export class Tls {
  readonly serverName: string | undefined;
  readonly #options: TlsOptions;
  #valid: TlsMaterial;

  constructor(options: TlsOptions) {
    const unknown = Object.keys(options).find((name) => !KNOWN.includes(name));
    if (unknown !== undefined)
      throw new TypeError(`tls: unknown option ${unknown}; known options: ${KNOWN.join(", ")}`);
    const { serverName } = options;
    const shape = /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/;
    if (
      serverName !== undefined &&
      !(typeof serverName === "string" && (shape.test(serverName) || isIP(serverName)))
    ) {
      throw new TypeError(`tls.serverName must be a host name, not ${JSON.stringify(serverName)}`);
    }
    this.serverName = serverName;
    this.#options = { ...options };
    this.#valid = read(this.#options);
  }

  /** Returns the current content of the files, or the last valid content. */
  material(): TlsMaterial {
    try {
      this.#valid = read(this.#options);
    } catch (error) {
      warn(`TLS files not reloaded, the last valid ones stay in use: ${(error as Error).message}`);
    }
    return this.#valid;
  }
}

function read(options: TlsOptions): TlsMaterial {
  const material: { -readonly [Part in keyof TlsMaterial]: string } = {};
  for (const part of PARTS) {
    const text = pem(options, part);
    if (text !== undefined) material[part] = text;
  }
  const { ca, cert, key } = material;
  if ((cert === undefined) !== (key === undefined))
    throw new TypeError("tls.cert and tls.key must be set together");
  if (ca !== undefined) certificates("ca", ca, options.caFile);
  if (cert !== undefined && key !== undefined) {
    const [leaf] = certificates("cert", cert, options.certFile);
    if (!leaf?.checkPrivateKey(privateKey(key, options.keyFile)))
      throw new TypeError("tls.key does not belong to tls.cert");
  }
  return material;
}

function pem(options: TlsOptions, part: (typeof PARTS)[number]): string | undefined {
  const [given, file] = [options[part], options[`${part}File`]];
  if (given !== undefined && file !== undefined)
    throw new TypeError(`set either tls.${part} or tls.${part}File`);
  if (file !== undefined) {
    if (typeof file !== "string" || file === "")
      throw new TypeError(`tls.${part}File must be the path of a file`);
    try {
      return readFileSync(file, "utf8");
    } catch (error) {
      throw new TypeError(`tls.${part}File cannot be read: ${(error as Error).message}`);
    }
  }
  if (given === undefined) return undefined;
  if (typeof given !== "string" && !(given instanceof Uint8Array)) {
    throw new TypeError(`tls.${part} must be PEM, as text or bytes; to give a file, set tls.${part}File`);
  }
  const text = typeof given === "string" ? given : Buffer.from(given).toString("utf8");
  if (!text.includes("-----BEGIN ")) {
    throw new TypeError(`tls.${part} contains no PEM; to give a file, set tls.${part}File`);
  }
  return text;
}

function certificates(part: "ca" | "cert", text: string, file: string | undefined): X509Certificate[] {
  const blocks = text.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) {
    throw new TypeError(`tls.${part} contains no PEM certificate${of(file)}`);
  }
  return blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw new TypeError(`tls.${part} contains an unreadable certificate${of(file)}`);
    }
  });
}

function privateKey(text: string, file: string | undefined): KeyObject {
  try {
    return createPrivateKey(text);
  } catch {
    throw new TypeError(`tls.key contains no PEM private key without a passphrase${of(file)}`);
  }
}

/** The name of the file, for an error. */
function of(file: string | undefined): string {
  return file === undefined ? "" : ` (${file})`;
}
