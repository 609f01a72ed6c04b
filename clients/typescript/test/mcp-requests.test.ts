import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
} from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { type McpPolicy, mcpGate } from "../src/mcp.js";
import { keyAnswer, unknownKey } from "./support/answers.js";
import { connected } from "./support/setup.js";

const { validateKey, validateSession } = ValidationService.method;

/** What a case expects. */
interface Expected {
  readonly admitted?: boolean;
  readonly usage?: readonly (readonly [string, number])[];
  readonly session_id_seen?: string | null;
  readonly body_read?: boolean;
  readonly status?: number;
  readonly code?: string;
  readonly scope?: string;
  readonly json_rpc_code?: number;
  readonly json_rpc_id?: number;
  readonly validated_sessions?: number;
}

interface Case {
  readonly name: string;
  readonly policy: string | null;
  readonly request: {
    readonly method: string;
    readonly headers: readonly (readonly [string, string])[];
    readonly body?: unknown;
    readonly raw_body?: string;
  };
  readonly response: Expected;
}

interface Table {
  readonly key_headers: readonly string[];
  readonly policies: Readonly<Record<string, McpPolicy>>;
  readonly keys: Readonly<Record<string, { readonly scopes: string[] }>>;
  readonly sessions: Readonly<Record<string, string>>;
  readonly requests: readonly Case[];
}

const path = new URL("../../../conformance/mcp/requests.json", import.meta.url);
const table = JSON.parse(await readFile(path, "utf8")) as Table;

/** What the application received. */
interface Seen {
  readonly sessionId: string | undefined;
  readonly body: unknown;
  readonly streamed: string | undefined;
}

/** A server behind a gate with one policy. */
interface Gated {
  readonly url: string;
  readonly seen: Seen[];
  readonly usage: [string, number][];
}

async function gated(
  t: TestContext,
  client: Parameters<typeof mcpGate>[0],
  policy?: McpPolicy,
): Promise<Gated> {
  const seen: Seen[] = [];
  const usage: [string, number][] = [];
  const gate = mcpGate(client, {
    header: table.key_headers,
    usage: {
      record: (tenantId, metric, quantity) => {
        assert.equal(tenantId, "acme");
        usage.push([metric, quantity]);
      },
    },
    ...(policy === undefined ? {} : { policy }),
  });
  const server = createServer((request: IncomingMessage & { body?: unknown }, response) => {
    const respond = async (error: unknown): Promise<void> => {
      assert.equal(error, undefined);
      const { body } = request;
      const sessionId = request.headers["mcp-session-id"] as string | undefined;
      assert.equal(request.rawHeaders.includes("Mcp-Session-Id"), sessionId !== undefined);
      const streamed = body === undefined ? undefined : await text(request);
      seen.push({ sessionId, body, streamed });
      response.end("{}");
    };
    gate(request, response, (error) => void respond(error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, seen, usage };
}

/** Sends a request. Without `sendsBody`, its body is announced but never sent. */
async function send(url: string, { method, headers, body, raw_body }: Case["request"], sendsBody: boolean) {
  const content = raw_body ?? (body === undefined ? undefined : JSON.stringify(body));
  const flat = headers.flatMap(([name, value]) => [name, value.replace(/\$(\w+)/, "key-of-$1")]);
  const entity =
    content === undefined
      ? []
      : ["Content-Type", "application/json", "Content-Length", String(Buffer.byteLength(content))];
  const all = ["Host", new URL(url).host, ...flat, ...entity] as unknown as OutgoingHttpHeaders;
  const asked = httpRequest(url, { method, headers: all, agent: false });
  if (content !== undefined && sendsBody) asked.end(content);
  else if (content === undefined) asked.end();
  else asked.flushHeaders();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  const answer = await text(response);
  asked.destroy();
  return { status: response.statusCode, headers: response.headers, text: answer };
}

test("mcp: the shared requests", async (t) => {
  const { fake, client } = await connected(t, { nearCache: false });
  fake.answer(validateKey, ({ key }) => {
    const found = table.keys[key.replace("key-of-", "")];
    return found === undefined ? unknownKey() : keyAnswer({ tenantId: "acme", scopes: found.scopes });
  });
  fake.answer(validateSession, ({ sessionId }) => {
    const tenantId = table.sessions[sessionId];
    return tenantId === undefined ? { verdict: Verdict.UNBOUND } : keyAnswer({ tenantId });
  });
  const servers = new Map<string | null, Gated>([[null, await gated(t, client)]]);
  for (const [name, policy] of Object.entries(table.policies))
    servers.set(name, await gated(t, client, policy));

  assert.ok(table.requests.length >= 100);
  for (const { name, policy, request, response: expected } of table.requests) {
    await t.test(name, async () => {
      const { url, seen, usage } = servers.get(policy) as Gated;
      seen.length = 0;
      usage.length = 0;
      const sessionsBefore = fake.callsOf(validateSession).length;
      const answer = await send(url, request, expected.body_read !== false);
      if (expected.admitted) {
        assert.equal(answer.status, 200, answer.text);
        assert.equal(seen.length, 1);
        assert.deepEqual([...usage].sort(), [...(expected.usage ?? [])].sort());
        const [{ body, streamed, sessionId } = {} as Seen] = seen;
        if (body !== undefined) {
          assert.deepEqual(body, request.body ?? JSON.parse(request.raw_body ?? ""));
          assert.deepEqual(JSON.parse(streamed ?? ""), body);
        }
        if ("session_id_seen" in expected) assert.equal(sessionId ?? null, expected.session_id_seen);
      } else {
        assert.equal(answer.status, expected.status, answer.text);
        assert.deepEqual([seen, usage], [[], []]);
        const problem = JSON.parse(answer.text) as { code?: string; error?: { code: number }; id?: unknown };
        if (expected.code !== undefined) assert.equal(problem.code, expected.code);
        if (expected.json_rpc_code !== undefined) {
          assert.equal(problem.error?.code, expected.json_rpc_code);
          assert.equal(answer.headers["content-type"], "application/json");
        }
        if (expected.json_rpc_id !== undefined) assert.equal(problem.id, expected.json_rpc_id);
        const challenge = answer.headers["www-authenticate"] ?? "";
        if (expected.scope !== undefined)
          assert.equal(/scope="([^"]*)"/.exec(challenge)?.[1], expected.scope);
        assert.doesNotMatch(`${challenge}${answer.text}`, /oauth|resource_metadata/i);
      }
      if (expected.validated_sessions !== undefined)
        assert.equal(fake.callsOf(validateSession).length - sessionsBefore, expected.validated_sessions);
    });
  }
});
