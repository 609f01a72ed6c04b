import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { DeniedError } from "../src/denied.js";
import { TenantAuthError } from "../src/error.js";
import { SessionExpiry, SessionService } from "../src/gen/tenantauth/v1/session_pb.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { McpHandles, UnknownHandleError } from "../src/mcp.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import { clientOf, startService, withService } from "./support/service.js";
import { connected } from "./support/setup.js";

const { validateKey, validateSession } = ValidationService.method;
const { bindSession, unbindSession } = SessionService.method;
const HANDLE = /^cart_[A-Za-z0-9_-]{43}$/;

async function setup(t: TestContext) {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  fake.answer(validateKey, () => keyAnswer());
  fake.answer(bindSession, () => ({ verdict: Verdict.VALID }));
  fake.answer(validateSession, () => ({ ...keyAnswer(), attributes: { kind: "cart" } }));
  fake.answer(unbindSession, () => ({ wasBound: true }));
  const principal = await client.requireKey("ta_key", { clientAddress: "192.0.2.7" });
  return { fake, client, principal, handles: new McpHandles(client, { ttlMs: 120_000 }) };
}

test("handles: a handle is random, and bound with its kind to the key of the request", async (t) => {
  const { fake, principal, handles } = await setup(t);
  const [one, two] = [await handles.mint(principal, "cart"), await handles.mint(principal, "cart")];
  assert.match(one, HANDLE);
  assert.notEqual(one, two);
  const { sessionId, key, ttl, expiry, attributes, clientAddress } =
    fake.callsOf(bindSession)[0]?.request ?? {};
  assert.deepEqual([sessionId, key, ttl?.seconds], [`mcp-handle:${one}`, "ta_key", 120n]);
  assert.deepEqual(
    [expiry, attributes, clientAddress],
    [SessionExpiry.SLIDING, { kind: "cart" }, "192.0.2.7"],
  );

  const found = await handles.require(principal, one, "cart");
  assert.deepEqual([found.handle, found.kind, found.tenantId], [one, "cart", "ten_1"]);
  const [validated] = fake.callsOf(validateSession);
  assert.deepEqual([validated?.request.sessionId, validated?.request.key], [`mcp-handle:${one}`, "ta_key"]);

  assert.equal(await handles.release(principal, one), true);
  const { sessionId: ended, tenantId } = fake.callsOf(unbindSession)[0]?.request ?? {};
  assert.deepEqual([ended, tenantId], [`mcp-handle:${one}`, "ten_1"]);
});

test("handles: every other handle is unknown, and no decision is not", async (t) => {
  const { fake, principal, handles } = await setup(t);
  const handle = await handles.mint(principal, "cart");
  const isUnknown = (error: unknown): boolean =>
    error instanceof UnknownHandleError && error.code === -32602 && error.message === "unknown handle";
  for (const malformed of [
    "",
    "cart",
    "cart_1",
    handle.slice(0, -1),
    `${handle} `,
    handle.replace("cart", "tray"),
    7,
  ])
    await assert.rejects(handles.require(principal, malformed as string, "cart"), isUnknown);
  assert.equal(fake.callsOf(validateSession).length, 0);
  for (const answer of [
    { verdict: Verdict.UNBOUND },
    { verdict: Verdict.SESSION_EXPIRED },
    { verdict: Verdict.TENANT_MISMATCH },
    { verdict: Verdict.REVOKED },
    { ...keyAnswer({ tenantId: "ten_2" }), attributes: { kind: "cart" } },
    { ...keyAnswer(), attributes: { kind: "tray" } },
    { ...keyAnswer(), attributes: {} },
  ]) {
    fake.answer(validateSession, () => answer);
    await assert.rejects(handles.require(principal, handle, "cart"), isUnknown);
  }
  fake.answer(validateSession, () => Promise.reject(invalid("session_id")));
  await assert.rejects(handles.require(principal, handle, "cart"), isUnknown);
  fake.answer(validateSession, () => ({ verdict: Verdict.TENANT_SUSPENDED }));
  await assert.rejects(handles.require(principal, handle, "cart"), DeniedError);
  fake.answer(validateSession, () => Promise.reject(unavailable()));
  await assert.rejects(handles.require(principal, handle, "cart"), TenantAuthError);

  fake.answer(bindSession, () => ({ verdict: Verdict.RATE_LIMITED }));
  const limited = (error: unknown): boolean =>
    error instanceof DeniedError && error.verdict === "RATE_LIMITED";
  await assert.rejects(handles.mint(principal, "cart"), limited);
  fake.answer(bindSession, () => Promise.reject(unavailable()));
  await assert.rejects(handles.mint(principal, "cart"), TenantAuthError);
  assert.equal(await handles.release(principal, "cart_1"), false);
});

test("handles: options, kinds and principals are checked", async (t) => {
  const { client, principal, handles } = await setup(t);
  assert.throws(() => new McpHandles({} as never), /client must have a method validateSession/);
  assert.throws(() => new McpHandles(client, { ttlMs: 1000 }), /ttlMs must be at least 60000 milliseconds/);
  assert.throws(() => new McpHandles(client, { ttl: 1 } as never), /unknown option "ttl"/);
  await assert.rejects(handles.mint(principal, "Cart"), /kind must be a text such as "cart"/);
  await assert.rejects(handles.mint({ ...principal }, "cart"), /the principal has no key to validate again/);
});

test("handles: on the real service they belong to the tenant, and end", withService, async (t) => {
  const { endpoint, key } = await startService(t);
  const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
  const { admin } = client.raw;
  await admin.createTenant({ tenantId: "foreign", name: "Foreign", plan: "pro" });
  const issued = await admin.issueKey({ tenantId: "foreign", name: "theirs", scopes: [] });
  const [mine, theirs] = [await client.requireKey(key), await client.requireKey(issued.plaintext)];
  const handles = new McpHandles(client);
  const handle = await handles.mint(mine, "cart");
  assert.equal((await handles.require(mine, handle, "cart")).tenantId, "ten_demo");
  await assert.rejects(handles.require(theirs, handle, "cart"), UnknownHandleError);
  assert.equal(await handles.release(theirs, handle), false);
  assert.equal((await handles.require(mine, handle, "cart")).tenantId, "ten_demo");
  assert.equal(await handles.release(mine, handle), true);
  await assert.rejects(handles.require(mine, handle, "cart"), UnknownHandleError);
});
