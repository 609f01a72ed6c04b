import { request as httpRequest, type OutgoingHttpHeaders } from "node:http";

/** A request with headers exactly as they are given. */
export function raw(
  url: string,
  headers: readonly string[],
  method = "GET",
): Promise<{ status: number | undefined; body: { code?: string } }> {
  return new Promise((resolve, reject) => {
    const { host } = new URL(url);
    const given = ["Host", host, ...headers] as unknown as OutgoingHttpHeaders;
    const asked = httpRequest(url, { method, headers: given, agent: false }, async (response) => {
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part as Buffer);
      const text = Buffer.concat(parts).toString();
      resolve({ status: response.statusCode, body: text === "" ? {} : JSON.parse(text) });
    });
    asked.once("error", reject);
    asked.end();
  });
}
