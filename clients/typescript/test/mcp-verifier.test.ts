import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { requireBearerAuth as expressRequireBearerAuth } from "@modelcontextprotocol/express";
import * as sdkErrors from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth as sdkRequireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { OAuthError } from "@modelcontextprotocol/server";
import express from "express";
import { DeniedError } from "../src/denied.js";
import { TenantAuthError } from "../src/error.js";
import { ValidationService } from "../src/gen/tenantauth/v1/validation_pb.js";
import { Verdict } from "../src/gen/tenantauth/v1/verdict_pb.js";
import { KeyVerifier, principalFrom, type SdkErrors } from "../src/mcp.js";
import { listening } from "./support/adapters.js";
import { invalid, keyAnswer, unavailable } from "./support/answers.js";
import { connected } from "./support/setup.js";

const { validateKey } = ValidationService.method;

/** The middleware of each SDK, with its error classes. */
const sdks = [
  ["sdk 1.32", sdkErrors, sdkRequireBearerAuth],
  ["server 2.4", { OAuthError }, expressRequireBearerAuth],
] as const;

async function verifying(t: TestContext, errors: SdkErrors) {
  const { fake, client } = await connected(t, { nearCache: false, retryBudget: 0 });
  const undecided: unknown[] = [];
  const verifier = new KeyVerifier(client, errors, { onError: (error) => undecided.push(error) });
  return { fake, verifier, undecided };
}

for (const [name, errors, requireBearerAuth] of sdks) {
  test(`mcp: ${name}: its own middleware never responds with 500`, async (t) => {
    const { fake, verifier, undecided } = await verifying(t, errors);
    const app = express();
    app.get("/", requireBearerAuth({ verifier, requiredScopes: ["orders:read"] }), (request, response) => {
      response.json(principalFrom((request as { auth?: object }).auth));
    });
    const url = await listening(t, app);
    const ask = async (): Promise<[number, string | undefined]> => {
      const response = await fetch(url, { headers: { authorization: "Bearer ta_key" } });
      return [response.status, ((await response.json()) as { error?: string }).error];
    };
    fake.answer(validateKey, () => keyAnswer());
    assert.deepEqual(await ask(), [200, undefined]);
    fake.answer(validateKey, () => keyAnswer({ scopes: [] }));
    assert.deepEqual(await ask(), [403, "insufficient_scope"]);
    for (const [verdict, status, error] of [
      [Verdict.REVOKED, 401, "invalid_token"],
      [Verdict.UNKNOWN, 401, "invalid_token"],
      [Verdict.DISABLED, 400, "access_denied"],
      [Verdict.TENANT_SUSPENDED, 400, "access_denied"],
      [Verdict.RATE_LIMITED, 400, "too_many_requests"],
    ] as const) {
      fake.answer(validateKey, () => keyAnswer({ verdict }));
      assert.deepEqual(await ask(), [status, error]);
    }
    fake.answer(validateKey, () => Promise.reject(invalid("key")));
    assert.deepEqual(await ask(), [401, "invalid_token"]);
    assert.deepEqual(undecided, []);
    fake.answer(validateKey, () => Promise.reject(unavailable()));
    assert.deepEqual(await ask(), [400, "temporarily_unavailable"]);
    assert.equal(undecided.length, 1);
  });

  test(`mcp: ${name}: the verifier returns the principal and the expiry, and errors have their cause`, async (t) => {
    const { fake, verifier } = await verifying(t, errors);
    const end = Date.now() + 60_000;
    fake.answer(validateKey, () => keyAnswer({ expiresAt: end }));
    const auth = await verifier.verifyAccessToken("ta_key");
    assert.deepEqual([auth.token, auth.clientId, auth.scopes], ["ta_key", "key_1", ["orders:read"]]);
    assert.equal(auth.expiresAt, Math.ceil(end / 1000));
    assert.equal(principalFrom(auth)?.tenantId, "ten_1");
    fake.answer(validateKey, () => keyAnswer());
    assert.ok((await verifier.verifyAccessToken("ta_key")).expiresAt > Date.now() / 1000);
    const causeOf = async (): Promise<unknown> =>
      await verifier.verifyAccessToken("ta_key").then(
        () => "no error",
        (error: Error) => error.cause,
      );
    fake.answer(validateKey, () => keyAnswer({ verdict: Verdict.TENANT_SUSPENDED }));
    const denial = await causeOf();
    assert.ok(denial instanceof DeniedError && denial.verdict === "TENANT_SUSPENDED");
    fake.answer(validateKey, () => Promise.reject(unavailable()));
    assert.ok((await causeOf()) instanceof TenantAuthError);
  });
}

test("mcp: a verifier needs the error classes of the SDK", async (t) => {
  const { client } = await connected(t, { nearCache: false });
  assert.throws(
    () => new KeyVerifier(client, undefined as unknown as SdkErrors),
    /errors must be the module/,
  );
  assert.throws(() => new KeyVerifier(client, {} as unknown as SdkErrors), /errors must be the module/);
});
