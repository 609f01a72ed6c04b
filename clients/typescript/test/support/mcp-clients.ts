import type { TestContext } from "node:test";
import {
  Client as NewClient,
  StreamableHTTPClientTransport as NewTransport,
} from "@modelcontextprotocol/client";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

/** What the tests need of the clients of both SDKs. */
export interface McpClient {
  /** The names of the tools. */
  tools(): Promise<string[]>;
  /** Calls a tool. Returns its text. Rejects for an HTTP error. */
  call(name: string, given?: Record<string, string>): Promise<string>;
  readonly sessionId: string | undefined;
  /** Ends the session, if there is one. */
  end(): Promise<void>;
}

/** Connects a client with a key. */
export type Connect = (t: TestContext, url: string, key: string) => Promise<McpClient>;

const info = { name: "a test", version: "1.0.0" };

function textOf(result: object): string {
  const { content = [] } = result as { readonly content?: unknown };
  const [first] = content as { readonly text?: string }[];
  return first?.text ?? "";
}

const withOld: Connect = async (t, url, key) => {
  const client = new OldClient(info);
  const requestInit = { headers: { authorization: `Bearer ${key}` } };
  const transport = new OldTransport(new URL(url), { requestInit });
  await client.connect(transport as Parameters<OldClient["connect"]>[0]);
  t.after(() => client.close());
  return {
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: async (name, given = {}) => textOf(await client.callTool({ name, arguments: given })),
    get sessionId() {
      return transport.sessionId;
    },
    end: () => transport.terminateSession(),
  };
};

const withNew =
  (mode: "legacy" | { readonly pin: string }): Connect =>
  async (t, url, key) => {
    const client = new NewClient(info, { versionNegotiation: { mode } });
    // The key is in both headers, which is one credential.
    const requestInit = { headers: { authorization: `Bearer ${key}`, "x-api-key": key } };
    const transport = new NewTransport(new URL(url), { requestInit });
    await client.connect(transport);
    t.after(() => client.close());
    return {
      tools: async () => (await client.listTools()).tools.map(({ name }) => name),
      call: async (name, given = {}) => textOf(await client.callTool({ name, arguments: given })),
      get sessionId() {
        return transport.sessionId;
      },
      end: async () => {
        if (transport.sessionId !== undefined) await transport.terminateSession();
      },
    };
  };

/** The clients of the SDKs, and whether their revision has sessions. */
export const mcpClients = [
  ["the client of sdk 1.32", withOld, true],
  ["the client of client 2.4 with a handshake", withNew("legacy"), true],
  ["the client of client 2.4 with 2026-07-28", withNew({ pin: "2026-07-28" }), false],
] as const satisfies readonly (readonly [string, Connect, boolean])[];
