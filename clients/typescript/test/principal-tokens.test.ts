import assert from "node:assert/strict";
import { createPublicKey, type JsonWebKey } from "node:crypto";
import { test } from "node:test";
import { inspect } from "node:util";
import { SignJWT } from "jose";
import { PrincipalDeniedError } from "../src/principal-token/denied.js";
import type { PrincipalVerifierOptions, VerifyPrincipal } from "../src/principal-token/verifier.js";
import {
  claims,
  fetches,
  publish,
  refusal,
  type Signer,
  sign,
  signer,
  token,
  verifying,
} from "./support/principal-tokens.js";
import { failure } from "./support/setup.js";

for (const alg of ["ES256", "EdDSA"] as const) {
  test(`a principal token signed with ${alg} is verified`, async (t) => {
    const { fake, clock, verifier } = await verifying(t);
    const by = await signer(alg);
    publish(fake, [by]);
    const principal = await verifier.verify(await token({ clock, signer: by }), {
      requiredScopes: ["orders:write"],
    });
    assert.deepEqual(
      { ...principal },
      {
        tenantId: "ten_1",
        keyId: "key_1",
        plan: "pro",
        scopes: ["orders:read", "orders:write"],
        omittedScopes: 0,
        revision: 10n,
        issuedAt: new Date(clock.now()),
        expiresAt: new Date(clock.now() + 60_000),
      },
    );
    assert.ok(Object.isFrozen(principal) && Object.isFrozen(principal.scopes));
    assert.equal((JSON.parse(JSON.stringify(principal)) as { revision: string }).revision, "10");
    const forged = await sign({ ...by, privateKey: (await signer(alg)).privateKey }, claims(clock));
    assert.equal(await refusal(verifier.verify(forged)), "INVALID_PRINCIPAL signature");
  });
}

const wrongClaims = [
  ["aud", "orders"],
  ["aud", "Billing"],
  ["aud", ["billing"]],
  ["aud", undefined],
  ["iss", "https://other.example.com"],
  ["iss", undefined],
  ["sub", undefined],
  ["sub", ""],
  ["sub", 5],
  ["key_id", ""],
  ["key_id", null],
  ["scope", undefined],
  ["scope", ["orders:read"]],
  ["scope", "a  b"],
  ["plan", undefined],
  ["rev", undefined],
  ["rev", "10"],
  ["rev", 1.5],
  ["rev", -1],
  ["iat", undefined],
  ["iat", "0"],
  ["exp", undefined],
  ["scope_omitted", 0],
  ["scope_omitted", "1"],
] as const;

test("each claim must have its type and value", async (t) => {
  const one = await verifying(t);
  for (const [claim, value] of wrongClaims) {
    const outcome = await refusal(one.verifier.verify(await token(one, { [claim]: value })));
    assert.equal(outcome, `INVALID_PRINCIPAL ${claim}`, `${claim} ${JSON.stringify(value)}`);
  }
  const omitted = await token(one, { scope: "", scope_omitted: 3 });
  const { scopes, omittedScopes } = await one.verifier.verify(omitted);
  assert.deepEqual([scopes, omittedScopes], [[], 3]);
});

test("the times have a leeway of five seconds", async (t) => {
  const one = await verifying(t);
  const { iat } = claims(one.clock);
  for (const [from, to, expected] of [
    [-64, -4, "accepted"],
    [-65, -5, "INVALID_PRINCIPAL exp"],
    [5, 65, "accepted"],
    [6, 66, "INVALID_PRINCIPAL iat"],
    [0, 61, "INVALID_PRINCIPAL exp"],
  ] as const) {
    const times = { iat: iat + from, exp: iat + to };
    assert.equal(await refusal(one.verifier.verify(await token(one, times))), expected, `${from} to ${to}`);
  }
});

test("the type must be that of a principal token", async (t) => {
  const { clock, verifier, signer: by } = await verifying(t);
  for (const typ of ["JWT", "at+jwt", "PRINCIPAL+JWT", undefined, 5]) {
    const signed = await sign(by, claims(clock), { typ });
    assert.equal(await refusal(verifier.verify(signed)), "INVALID_PRINCIPAL typ", String(typ));
  }
  const anonymous = await sign(by, claims(clock), { kid: undefined });
  assert.equal(await refusal(verifier.verify(anonymous)), "INVALID_PRINCIPAL kid");
});

test("the algorithm must be that of the key", async (t) => {
  const { fake, clock, verifier } = await verifying(t);
  const keys = { ES256: await signer("ES256"), EdDSA: await signer("EdDSA") };
  publish(fake, Object.values(keys));
  const forge = async (named: Signer, by: Signer): Promise<string> =>
    await sign(by, claims(clock), { kid: named.kid });
  for (const tokenOf of [
    () => forge(keys.ES256, keys.EdDSA),
    () => forge(keys.EdDSA, keys.ES256),
    () => hmac(keys.ES256),
    () => hmac(keys.EdDSA),
    () => Promise.resolve(unsigned(keys.ES256)),
  ]) {
    assert.equal(await refusal(verifier.verify(await tokenOf())), "INVALID_PRINCIPAL alg");
  }

  /** The public key as the secret of a symmetric algorithm. */
  async function hmac({ jwk, kid }: Signer): Promise<string> {
    const publicKey = createPublicKey({ key: jwk as JsonWebKey, format: "jwk" });
    const secret = publicKey.export({ type: "spki", format: "der" });
    const header = { typ: "principal+jwt", alg: "HS256", kid };
    return await new SignJWT(claims(clock)).setProtectedHeader(header).sign(secret);
  }

  function unsigned({ kid }: Signer): string {
    const parts = [{ typ: "principal+jwt", alg: "none", kid }, claims(clock)];
    return `${parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".")}.`;
  }
});

test("a token of more than 4096 bytes is not parsed", async (t) => {
  const one = await verifying(t);
  const length = async (plan: number): Promise<string> => await token(one, { plan: "p".repeat(plan) });
  const fits = 2_700;
  const long = await length(3_000);
  const short = await length(fits);
  assert.ok(short.length <= 4096 && long.length > 4096);
  assert.equal(await refusal(one.verifier.verify(long)), "INVALID_PRINCIPAL format");
  assert.equal(fetches(one.fake), 0);
  assert.equal((await one.verifier.verify(short)).plan.length, fits);
});

test("text that is no token is invalid", async (t) => {
  const { fake, verifier } = await verifying(t);
  for (const text of ["", "ta_key", "a.b.c", "..", "é.é.é", "\ud800.a.b", "W10.e30.AA"])
    assert.equal(await refusal(verifier.verify(text)), "INVALID_PRINCIPAL format", text);
  assert.equal(fetches(fake), 0);
});

test("missing scopes are reported", async (t) => {
  const one = await verifying(t);
  const requiredScopes = ["users:read", "orders:read", "audit:read", "users:read", "ORDERS:READ"];
  const denied = await one.verifier.verify(await token(one), { requiredScopes }).catch((error) => error);
  assert.ok(denied instanceof PrincipalDeniedError);
  assert.equal(denied.code, "INSUFFICIENT_SCOPE");
  assert.deepEqual(denied.missingScopes, ["ORDERS:READ", "audit:read", "users:read"]);
});

test("a scope that may be omitted is no decision", async (t) => {
  const one = await verifying(t);
  const signed = await token(one, { scope_omitted: 1 });
  await one.verifier.verify(signed, { requiredScopes: ["orders:read"] });
  const error = await failure(one.verifier.verify(signed, { requiredScopes: ["orders:read", "a"] }));
  assert.deepEqual([error.kind, error.reason], ["unavailable", "SCOPES_OMITTED"]);
});

test("errors of the verifier show no token", async (t) => {
  const one = await verifying(t);
  const canary = { sub: "ten_canary", key_id: "key_canary", plan: "plan_canary", scope: "canary" };
  const valid = await token(one, canary);
  const { iat } = claims(one.clock);
  const cases: readonly [string, VerifyPrincipal?][] = [
    [valid, { requiredScopes: ["x"] }],
    [`${valid.slice(0, -8)}AAAAAAAA`],
    [await token(one, { ...canary, aud: "canary" })],
    [await token(one, { ...canary, iss: "canary" })],
    [await token(one, { ...canary, exp: iat - 60 })],
    [await sign(one.signer, { ...claims(one.clock), ...canary }, { kid: "canary" })],
    [`canary${valid}`],
  ];
  for (const [text, options] of cases) {
    const error = await one.verifier.verify(text, options).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof PrincipalDeniedError);
    const shown = `${inspect(error, { depth: 9, showHidden: true })}${JSON.stringify(error)}${error.stack}`;
    for (const secret of ["canary", ...text.split(".")]) assert.ok(!shown.includes(secret), shown);
  }
  assert.ok(!inspect(one.verifier, { depth: 9, showHidden: true }).includes("canary"));
});

test("invalid options of the verifier are rejected", async (t) => {
  const { client, verifier } = await verifying(t);
  for (const [options, message] of [
    [{ audience: "" }, /audience must be a text that is not empty/],
    [{}, /audience must be a text that is not empty/],
    [{ audience: ["billing"] }, /audience must be a text that is not empty/],
    [{ audience: "billing", issuer: "x" }, /unknown option "issuer"/],
    [undefined, /options must be an object/],
  ] as const) {
    assert.throws(() => client.principalVerifier(options as unknown as PrincipalVerifierOptions), message);
  }
  const scopes = { scopes: ["orders:read"] } as VerifyPrincipal;
  await assert.rejects(verifier.verify("t", scopes), /unknown option "scopes"/);
  const text = { requiredScopes: "orders:read" } as unknown as VerifyPrincipal;
  await assert.rejects(verifier.verify("t", text), /requiredScopes must be a list of texts/);
  await assert.rejects(verifier.verify(undefined as unknown as string), /token must be a string/);
});

test("a closed client verifies nothing", async (t) => {
  const one = await verifying(t);
  const signed = await token(one);
  await one.verifier.verify(signed);
  one.client.close();
  assert.equal(await refusal(one.verifier.verify(signed)), "closed");
});
