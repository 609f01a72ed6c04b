import { request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";

/** Sends a request with exactly the given headers. */
export function raw(
  url: string,
  headers: readonly string[],
  method = "GET",
): Promise<{ status: number | undefined; headers: IncomingHttpHeaders; body: { code?: string } }> {
  return new Promise((resolve, reject) => {
    const { host } = new URL(url);
    const given = ["Host", host, ...headers] as unknown as OutgoingHttpHeaders;
    const asked = httpRequest(url, { method, headers: given, agent: false }, async (response) => {
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part as Buffer);
      const text = Buffer.concat(parts).toString();
      const { statusCode: status, headers: shown } = response;
      resolve({ status, headers: shown, body: text === "" ? {} : JSON.parse(text) });
    });
    asked.once("error", reject);
    asked.end();
  });
}
