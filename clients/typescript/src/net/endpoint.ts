import { isIPv4, isIPv6 } from "node:net";

/** One endpoint of the service; a name may resolve to several addresses. */
export interface Endpoint {
  /** A host name or IP address, without brackets. */
  readonly host: string;
  readonly port: number;
  /** The authority of calls: `host:port`, with brackets around an IPv6 address. */
  readonly authority: string;
  readonly secure: boolean;
}

const FORMS = "host:port, dns:///host:port, http://host:port or https://host:port";
const SHAPE = /^(?:(https?):\/\/|dns:\/\/\/)?(\[[^\]]*\]|[^[\]:/@?#]*)(?::(\d{1,5}))?$/;

/** Parses a list of endpoints, or one text with commas. `tls` is whether TLS options are set. */
export function parseEndpoints(endpoints: string | readonly string[], tls: boolean): readonly Endpoint[] {
  const texts = typeof endpoints === "string" ? [endpoints] : endpoints;
  if (!Array.isArray(texts) || texts.length === 0) {
    throw new TypeError(`endpoints must be text or a list that is not empty: ${FORMS}`);
  }
  const all = texts.flatMap((text) => {
    if (typeof text !== "string") throw new TypeError(`endpoints must be text or a list of texts: ${FORMS}`);
    return text.split(",").map((one) => parse(one, tls));
  });
  const odd = all.find(({ secure }) => secure !== all[0]?.secure);
  if (odd !== undefined) {
    const [plain, secure] = all[0]?.secure ? [odd, all[0]] : [all[0], odd];
    throw new TypeError(
      `endpoints must all be plaintext or all TLS: ${plain?.authority} is plaintext and ${secure?.authority} is TLS`,
    );
  }
  return all;
}

function parse(text: string, tls: boolean): Endpoint {
  const refuse = (why: string): TypeError => new TypeError(`endpoint ${JSON.stringify(text)} ${why}`);
  const match = SHAPE.exec(text);
  if (match === null) {
    const unbracketed = /^(https?:\/\/|dns:\/\/\/)?[0-9a-f.]*:[0-9a-f.]*:[0-9a-f.:]*$/i.test(text);
    throw refuse(unbracketed ? "needs brackets around its IPv6 address: [::1]:50051" : `must be ${FORMS}`);
  }
  const [, scheme, place = "", digits] = match;
  const bracketed = place.startsWith("[");
  const host = bracketed ? place.slice(1, -1) : place;
  const named = /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(host) && !/^[\d.]+$|\.\./.test(host);
  if (bracketed ? !isIPv6(host) : !isIPv4(host) && !named) throw refuse(`must be ${FORMS}`);
  const port = Number(digits);
  if (digits === undefined) throw refuse(`has no port: use ${place}:port`);
  if (port < 1 || port > 65_535) throw refuse("has a port that is not from 1 to 65535");
  if (scheme === "http" && tls) {
    throw refuse("is plaintext, but tls is set: use https://, or remove tls");
  }
  return { host, port, authority: `${place}:${port}`, secure: scheme === "https" || tls };
}
