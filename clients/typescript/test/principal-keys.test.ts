import assert from "node:assert/strict";
import { test } from "node:test";
import { unavailable } from "./support/answers.js";
import {
  claims,
  fetches,
  getPrincipalKeys,
  ISSUER,
  publish,
  refusal,
  sign,
  signer,
  token,
  type Verifying,
  verifying,
} from "./support/principal-tokens.js";
import { gate, until } from "./support/until.js";

const unknown = "INVALID_PRINCIPAL kid";

/** Without retries, so that each fetch is one call. */
const options = { nearCache: false, retryBudget: 0 } as const;

test("the keys are fetched once and shared", async (t) => {
  const one = await verifying(t, options);
  const hold = gate();
  const jwks = JSON.stringify({ keys: [one.signer.jwk] });
  fakeAnswer(one, async () => {
    await hold.passed;
    return { jwks, issuer: ISSUER };
  });
  const signed = await token(one);
  const all = Promise.all([one.verifier.verify(signed), one.verifier.verify(signed)]);
  await until("the keys are fetched", () => fetches(one.fake) === 1);
  hold.open();
  await all;
  await one.verifier.verify(signed);
  assert.equal(fetches(one.fake), 1);
});

test("keys older than five minutes are fetched in the background", async (t) => {
  const one = await verifying(t, { ...options, timeoutMs: 3_600_000 });
  await one.verifier.verify(await token(one));
  one.clock.advance(299_999);
  await one.verifier.verify(await token(one));
  assert.equal(fetches(one.fake), 1);
  const hold = gate<never>();
  fakeAnswer(one, () => hold.passed);
  one.clock.advance(1);
  let outcome = "";
  void refusal(one.verifier.verify(await token(one))).then((given) => {
    outcome = given;
  });
  // The fetch never gets an answer.
  await until("the keys are fetched and the token is verified", () => {
    return fetches(one.fake) === 2 && outcome === "accepted";
  });
});

test("an unknown key id causes one fetch in five seconds", async (t) => {
  const one = await verifying(t, options);
  await one.verifier.verify(await token(one));
  const next = await signer("ES256");
  const signed = await sign(next, claims(one.clock));
  one.clock.advance(4999);
  assert.equal(await refusal(one.verifier.verify(signed)), unknown);
  assert.equal(fetches(one.fake), 1);
  one.clock.advance(1);
  const both = [one.verifier.verify(signed), one.verifier.verify(signed)];
  assert.deepEqual(await Promise.all(both.map(refusal)), [unknown, unknown]);
  assert.equal(await refusal(one.verifier.verify(signed)), unknown);
  assert.equal(fetches(one.fake), 2);
  publish(one.fake, [one.signer, next]);
  one.clock.advance(5000);
  assert.equal(await refusal(one.verifier.verify(signed)), "accepted");
  assert.equal(fetches(one.fake), 3);
});

test("a key published ahead verifies without another fetch", async (t) => {
  const one = await verifying(t, options);
  const next = await signer("ES256");
  publish(one.fake, [one.signer, next]);
  await one.verifier.verify(await token(one));
  assert.equal(await refusal(one.verifier.verify(await sign(next, claims(one.clock)))), "accepted");
  assert.equal(fetches(one.fake), 1);
  publish(one.fake, [next]);
  one.clock.advance(300_000);
  await one.verifier.verify(await sign(next, claims(one.clock)));
  await until("the first key is gone", async () => {
    return (await refusal(one.verifier.verify(await token(one)))) === unknown;
  });
});

test("an answer without usable keys never replaces a set", async (t) => {
  const one = await verifying(t, options);
  await one.verifier.verify(await token(one));
  const { jwk } = await signer("ES256");
  const answers = [
    "",
    "null",
    "{}",
    "[]",
    '{"keys":{}}',
    '{"keys":[]}',
    '{"keys":[null,5,{}]}',
    ...[{ use: "enc" }, { alg: "EdDSA" }, { crv: "P-384" }, { kty: "RSA" }, { kid: 5 }, { y: jwk.x }].map(
      (wrong) => JSON.stringify({ keys: [{ ...jwk, ...wrong }] }),
    ),
  ].map((jwks) => ({ jwks, issuer: ISSUER }));
  for (const answer of [...answers, { jwks: JSON.stringify({ keys: [jwk] }), issuer: "" }]) {
    fakeAnswer(one, () => answer);
    one.clock.advance(5000);
    const before = fetches(one.fake);
    // Whether the service has this key is not known.
    const stranger = await sign(await signer("EdDSA"), claims(one.clock));
    assert.equal(await refusal(one.verifier.verify(stranger)), "unavailable", answer.jwks);
    assert.equal(fetches(one.fake), before + 1);
    assert.equal(await refusal(one.verifier.verify(await token(one))), "accepted", answer.jwks);
  }
});

test("unusable keys do not hide the others", async (t) => {
  const one = await verifying(t, options);
  const { jwk } = await signer("ES256");
  const later = { ...jwk, kid: "later", alg: "ES999" };
  const jwks = JSON.stringify({ keys: [later, null, one.signer.jwk] });
  fakeAnswer(one, () => ({ jwks, issuer: ISSUER }));
  assert.equal(await refusal(one.verifier.verify(await token(one))), "accepted");
});

test("without any keys no decision is made", async (t) => {
  const one = await verifying(t, options);
  const signed = await token(one);
  publish(one.fake, [], "");
  assert.equal(await refusal(one.verifier.verify(signed)), "unavailable");
  // Not more than one fetch in a second, whatever is presented.
  assert.equal(await refusal(one.verifier.verify(signed)), "unavailable");
  assert.equal(fetches(one.fake), 1);
  publish(one.fake, [one.signer]);
  one.clock.advance(1000);
  assert.equal(await refusal(one.verifier.verify(signed)), "accepted");
});

test("a failed fetch is no decision and keeps the keys", async (t) => {
  const one = await verifying(t, options);
  const down = (): never => {
    throw unavailable();
  };
  fakeAnswer(one, down);
  assert.equal(await refusal(one.verifier.verify(await token(one))), "unavailable");
  publish(one.fake, [one.signer]);
  one.clock.advance(1000);
  await one.verifier.verify(await token(one));
  fakeAnswer(one, down);
  one.clock.advance(86_400_000);
  for (let use = 0; use < 3; use += 1) await one.verifier.verify(await token(one));
  const stranger = await sign(await signer("EdDSA"), claims(one.clock));
  assert.equal(await refusal(one.verifier.verify(stranger)), "unavailable");
  assert.equal(await refusal(one.verifier.verify(await token(one))), "accepted");
  assert.equal(fetches(one.fake), 3);
  publish(one.fake, [one.signer]);
  one.clock.advance(5000);
  assert.equal(await refusal(one.verifier.verify(stranger)), unknown);
});

test("the issuer is replaced together with its keys", async (t) => {
  const one = await verifying(t, options);
  const before = await token(one);
  await one.verifier.verify(before);
  const next = await signer("ES256");
  const iss = "https://new.example.com";
  publish(one.fake, [next], iss);
  one.clock.advance(5000);
  const after = await sign(next, { ...claims(one.clock), iss });
  assert.equal(await refusal(one.verifier.verify(after)), "accepted");
  const mixed = await sign(next, claims(one.clock));
  assert.equal(await refusal(one.verifier.verify(mixed)), "INVALID_PRINCIPAL iss");
  assert.equal(await refusal(one.verifier.verify(before)), unknown);
});

function fakeAnswer(
  { fake }: Verifying,
  answer: () => { jwks: string; issuer: string } | Promise<{ jwks: string; issuer: string }>,
): void {
  fake.answer(getPrincipalKeys, answer);
}
