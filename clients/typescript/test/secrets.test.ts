import assert from "node:assert/strict";
import type { Runtime } from "node:inspector";
import { Session } from "node:inspector/promises";
import { type TestContext, test } from "node:test";
import { inspect } from "node:util";
import * as sdkErrors from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { LimitService } from "../src/gen/tenantauth/v1/limit_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { type AuthInfo, KeyVerifier, McpHandles, mcpGate } from "../src/mcp.js";
import { keyAnswer, unavailable } from "./support/answers.js";
import { listening } from "./support/gates.js";
import { limited, reserved } from "./support/limit-answers.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected, failure } from "./support/setup.js";

const { validateKey, validateSession } = ValidationService.method;
const CANARY = "ta_canary-4f1c9d";

/** Everything that printing, logging or serialising a value may show. */
function shown(value: unknown): string {
  const seen = new Set<unknown>();
  const json = JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === "bigint") return String(part);
    if (typeof part === "object" && part !== null) {
      if (seen.has(part)) return undefined;
      seen.add(part);
    }
    return part;
  });
  const stack = value instanceof Error ? value.stack : "";
  return `${inspect(value, { depth: Infinity, showHidden: true })}${json}${stack}${String(value)}`;
}

async function setup(t: TestContext): ReturnType<typeof connected> {
  return await connected(t, { nearCache: { watch: false }, retryBudget: 0, callerToken: `${CANARY}-token` });
}

test("clients and answers show neither keys nor tokens", async (t) => {
  const { fake, client } = await setup(t);
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(validateSession, () => keyAnswer());
  const answers: unknown[] = [
    await client.validateKey(CANARY),
    await client.validateKey(CANARY),
    await client.validateSession("s", { key: CANARY }),
  ];
  assert.equal(fake.callsOf(validateKey)[0]?.request.key, CANARY);
  fake.answer(LimitService.method.consume, () => limited());
  fake.answer(LimitService.method.reserve, () => reserved(30_000));
  fake.answer(LimitService.method.settle, () => ({}));
  const costs = [{ metric: "requests", amount: 1 }];
  const limiter = client.limits.local({ metric: "requests" });
  answers.push(limiter, await client.limits.consume(CANARY, costs));
  answers.push(await client.limits.reserve(CANARY, costs), await limiter.admit(CANARY));
  await limiter.close();
  for (const value of [client, ...answers]) assert.ok(!shown(value).includes(CANARY));
});

test("responses of the real service show no key and convert to JSON", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const { admin } = client.raw;
  const issued = await admin.issueKey({ tenantId: "ten_demo", name: "shown once", scopes: [] });
  const rotated = await admin.rotateKey({ keyId: issued.key?.keyId ?? "" });
  await client.sessions.bind({ sessionId: "s", key, ttlMs: 60_000 });
  const now = Date.now();
  const span = { start: new Date(now - 7_200_000), end: new Date(now + 7_200_000) };
  await client.usage.record([{ tenantId: "ten_demo", metric: "api.calls", quantity: 1 }]);
  const sums: object[] = [];
  for await (const sum of client.usage.query({ tenantId: "ten_demo", ...span })) sums.push(sum);
  const answers: unknown[] = [
    issued,
    rotated,
    { nested: [issued] },
    // A copy has the bigint itself, which JSON cannot represent.
    { ...issued, revision: undefined },
    ...sums,
    client.watchState(),
  ];
  for (let twice = 0; twice < 2; twice += 1) {
    answers.push(await client.validateKey(key, { scopes: ["demo:read"] }));
    answers.push(await client.validateSession("s", { key }));
  }
  answers.push(
    await client.serverInfo(),
    await client.validateKeys([key]),
    await admin.listKeys({ tenantId: "ten_demo" }),
  );
  answers.push(await new KeyVerifier(client, sdkErrors).verifyAccessToken(key));
  const secrets = [key, issued.plaintext, rotated.plaintext];
  assert.ok(secrets.every((secret) => secret.length > 20));
  for (const answer of answers) {
    const printed = `${inspect(answer, { depth: Infinity, showHidden: true })}${JSON.stringify(answer)}${String(answer)}`;
    for (const secret of secrets) assert.ok(!printed.includes(secret), printed);
  }
  assert.match(inspect(issued), /plaintext: '\[redacted\]'/);
});

test("principals, guards and what a tool gets of the gate show no key", async (t) => {
  const { fake, client } = await setup(t);
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(validateSession, () => keyAnswer());
  const principal = await client.requireKey(CANARY);
  const session = await client.requireSession("s", { key: CANARY });
  let auth: AuthInfo | undefined;
  const gate = mcpGate(client);
  const url = await listening(t, (request, response) =>
    gate(request, response, () => {
      ({ auth } = request as { auth?: AuthInfo });
      response.end();
    }),
  );
  await fetch(url, { headers: { authorization: `Bearer ${CANARY}` } });
  assert.equal(auth?.token, CANARY, "tools may read it");
  const guard = client.guard(principal, () => undefined);
  t.after(() => guard.release());
  for (const value of [principal, session, auth, guard, client, new McpHandles(client)])
    assert.ok(!shown(value).includes(CANARY));
  assert.ok(!shown(structuredClone(principal)).includes(CANARY));
});

test("errors show neither keys nor tokens", async (t) => {
  const { fake, client } = await setup(t);
  fake.answer(validateKey, () => {
    throw unavailable();
  });
  const unserved = { sessionId: "s", key: CANARY, ttlMs: 1000 };
  const errors: unknown[] = [
    await failure(client.validateKey(CANARY)),
    await failure(client.validateSession("s", { key: CANARY })),
    await failure(client.validateKeys([CANARY])),
    await failure(client.sessions.bind(unserved)),
  ];
  // A malformed key must not be quoted by an encoder's error.
  for (const wrong of [[CANARY], { key: CANARY }, Buffer.from(CANARY)] as unknown as string[]) {
    errors.push(await client.validateKey(wrong).catch((error: unknown) => error));
    errors.push(await client.validateSession("s", { key: wrong }).catch((error: unknown) => error));
  }
  errors.push(await client.validateKey(`${CANARY}\ud800`).catch((error: unknown) => error));
  assert.equal(errors.length, 11);
  for (const error of errors) {
    assert.ok(error instanceof Error);
    assert.ok(!shown(error).includes(CANARY), shown(error));
  }
});

test("the near cache contains digests and no keys", async (t) => {
  const { fake, client } = await setup(t);
  fake.answer(validateKey, () => keyAnswer());
  await client.validateKey(CANARY);
  (globalThis as { inspected?: unknown }).inspected = client;
  const session = new Session();
  session.connect();
  const seen = await privateTexts(session);
  session.disconnect();
  assert.ok(
    seen.some((text) => /^[\w-]{43}$/.test(text)),
    "the digest is there",
  );
  assert.ok(
    seen.some((text) => text === "key_1"),
    "the answer is there",
  );
  assert.ok(!seen.some((text) => text === CANARY));
});

/** The debugger's result. The types of Node.js lack private properties. */
interface Properties extends Runtime.GetPropertiesReturnType {
  readonly privateProperties?: Runtime.InternalPropertyDescriptor[];
}

/** Every text that is reachable from the client through properties, including private ones and map entries. */
async function privateTexts(session: Session): Promise<string[]> {
  const { result } = await session.post("Runtime.evaluate", { expression: "globalThis.inspected" });
  const queue = [{ id: result.objectId, depth: 0 }];
  const texts: string[] = [];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { id: objectId, depth } = next;
    if (objectId === undefined || depth > 9) continue;
    const all: Properties = await session.post("Runtime.getProperties", { objectId, ownProperties: true });
    const named = [...all.result, ...(all.privateProperties ?? []), ...(all.internalProperties ?? [])];
    for (const { name, value } of named) {
      if (name === "[[Prototype]]" || /^(raw|#endpoints|#rpc|sessions|usage|constructor)$/.test(name))
        continue;
      if (typeof value?.value === "string") texts.push(value.value);
      else if (value?.type === "object") queue.push({ id: value.objectId, depth: depth + 1 });
    }
  }
  return texts;
}
