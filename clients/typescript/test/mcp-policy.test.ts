import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type McpGateOptions, type McpPolicy, mcpGate, readMcpPolicy } from "../src/mcp.js";
import { temporaryFolder } from "./support/service.js";
import { connected } from "./support/setup.js";

test("mcp: an invalid policy is rejected with the path of what is wrong", async (t) => {
  const { client } = await connected(t, { nearCache: false });
  for (const [policy, message] of [
    [[], /^policy must be an object$/],
    [{ tool: {} }, /^policy\.tool is not known: use tools, resources, prompts, methods$/],
    [{ tools: ["a"] }, /^policy\.tools must be an object$/],
    [{ tools: { a: null } }, /^policy\.tools\["a"\] must be an object$/],
    [{ tools: { "": {} } }, /^policy\.tools: a name must not be empty; use "\*" for all names$/],
    [{ tools: { a: { scope: [] } } }, /^policy\.tools\["a"\]\.scope is not known: use scopes, usage$/],
    [{ tools: { a: { scopes: "b" } } }, /^policy\.tools\["a"\]\.scopes must be a list/],
    [{ prompts: { a: { scopes: ["b", "C"] } } }, /^policy\.prompts\["a"\]\.scopes\[1\] must be a scope/],
    [{ methods: { a: { usage: "m" } } }, /^policy\.methods\["a"\]\.usage must be an object$/],
    [{ tools: { a: { usage: {} } } }, /^policy\.tools\["a"\]\.usage\.metric must be a lower-case letter/],
    [{ tools: { a: { usage: { metric: "M" } } } }, /\.usage\.metric must be a lower-case letter/],
    [{ tools: { a: { usage: { metric: "m", quantity: 0.5 } } } }, /\.usage\.quantity must be a whole number/],
    [
      { tools: { a: { usage: { metric: "m", count: 1 } } } },
      /\.usage\.count is not known: use metric, quantity$/,
    ],
  ] as const)
    assert.throws(() => mcpGate(client, { policy: policy as unknown as McpPolicy }), {
      name: "TypeError",
      message,
    });
});

test("mcp: invalid options are rejected", async (t) => {
  const { client } = await connected(t, { nearCache: false });
  const metered = { tools: { a: { usage: { metric: "m" } } } };
  for (const [options, message] of [
    [{ policy: metered }, /^usage must be a UsageRecorder, because the policy names usage to record$/],
    [{ usage: {} }, /^usage must have a method record/],
    [{ scope: [] }, /unknown option "scope"/],
    [{ sessionTtlMs: 1000 }, /^sessionTtlMs must be at least 60000 milliseconds, not 1000$/],
    [{ maxBodyBytes: 0 }, /^maxBodyBytes must be a whole number/],
    [{ toleranceMs: 0 }, /^toleranceMs must be more than 0/],
    [{ filterLists: 1 }, /^filterLists must be true or false/],
    [{ resource: "https://mcp.test/mcp" }, /^resource and authorizationServers must be given together/],
    [{ resource: "mcp", authorizationServers: ["https://a.test"] }, /^resource must be a URL/],
    [
      { resource: "https://mcp.test/#x", authorizationServers: ["https://a.test"] },
      /^resource must be a URL/,
    ],
    [
      { resource: "https://mcp.test/", authorizationServers: ["auth"] },
      /^authorizationServers must be a URL/,
    ],
    [{ header: [] }, /^header must be a header name/],
  ] as const)
    assert.throws(() => mcpGate(client, options as unknown as McpGateOptions), {
      name: "TypeError",
      message,
    });
});

test("mcp: a policy is read from a file, strictly", async (t) => {
  const folder = await temporaryFolder(t);
  const read = async (text: string): Promise<McpPolicy> => {
    const path = join(folder, "policy.json");
    await writeFile(path, text);
    return readMcpPolicy(path);
  };
  const policy = { tools: { list_orders: { scopes: ["orders:read"] } } };
  assert.deepEqual(await read(JSON.stringify(policy)), policy);
  await assert.rejects(
    read('{"tools": {"a": {}, "a": {"scopes": ["b"]}}}'),
    /policy\.json: a name occurs twice/,
  );
  await assert.rejects(read('{"tools": {"a": 1}}'), /policy\.json: policy\.tools\["a"\] must be an object/);
  await assert.rejects(read("{"), /policy\.json: /);
  assert.throws(() => readMcpPolicy(join(folder, "nowhere.json")), /ENOENT/);
});
