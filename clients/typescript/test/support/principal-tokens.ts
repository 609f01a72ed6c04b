import type { TestContext } from "node:test";
import {
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  type JWK,
  type JWTHeaderParameters,
  type JWTPayload,
  SignJWT,
} from "jose";
import type { Client } from "../../src/client.js";
import { InfoService } from "../../src/gen/tenantauth/v1/info_pb.js";
import type { ClientOptions } from "../../src/options.js";
import type { PrincipalVerifier } from "../../src/principal-token/verifier.js";
import type { Fake } from "./fake.js";
import type { ManualClock } from "./manual-clock.js";
import { connected } from "./setup.js";

export const ISSUER = "https://auth.example.com";
export const { getPrincipalKeys } = InfoService.method;

/** A key pair of the service. */
export interface Signer {
  readonly alg: "ES256" | "EdDSA";
  readonly kid: string;
  /** The public key, as the service publishes it. */
  readonly jwk: JWK;
  readonly privateKey: CryptoKey;
}

export async function signer(alg: Signer["alg"]): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(jwk);
  return { alg, kid, jwk: { ...jwk, alg, kid, use: "sig" }, privateKey };
}

/** A fake that publishes a key, a client of it, its clock and a verifier. */
export interface Verifying {
  readonly fake: Fake;
  readonly client: Client;
  readonly clock: ManualClock;
  readonly verifier: PrincipalVerifier;
  readonly signer: Signer;
}

export async function verifying(
  t: TestContext,
  options: ClientOptions = { nearCache: false },
): Promise<Verifying> {
  const { fake, client, clock } = await connected(t, options);
  const first = await signer("EdDSA");
  publish(fake, [first]);
  return { fake, client, clock, verifier: client.principalVerifier({ audience: "billing" }), signer: first };
}

/** Sets the keys that the fake publishes from now on. */
export function publish(fake: Fake, signers: readonly Signer[], issuer = ISSUER): void {
  const jwks = JSON.stringify({ keys: signers.map(({ jwk }) => jwk) });
  fake.answer(getPrincipalKeys, () => ({ jwks, issuer }));
}

/** Number of times that the keys were fetched. */
export function fetches(fake: Fake): number {
  return fake.callsOf(getPrincipalKeys).length;
}

/** The claims of a token signed at this moment, at revision 10. */
export function claims(clock: ManualClock): JWTPayload & { readonly iat: number } {
  const iat = Math.floor(clock.now() / 1000);
  const about = { key_id: "key_1", scope: "orders:read orders:write", plan: "pro", rev: 10 };
  return { iss: ISSUER, aud: "billing", sub: "ten_1", ...about, iat, exp: iat + 60 };
}

/** Signs a token; `undefined` removes a claim or a header parameter. */
export async function sign(
  by: Signer,
  payload: JWTPayload,
  header: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const given = { typ: "principal+jwt", alg: by.alg, kid: by.kid, ...header } as JWTHeaderParameters;
  return await new SignJWT(payload).setProtectedHeader(given).sign(by.privateKey);
}

/** A token of the first key that differs from a valid one in these claims. */
export async function token(
  { clock, signer: by }: Pick<Verifying, "clock" | "signer">,
  changed: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  return await sign(by, { ...claims(clock), ...changed });
}

/** Returns what a verification fails with: the code and the part, or the kind of a `TenantAuthError`. */
export async function refusal(verification: Promise<unknown>): Promise<string> {
  return await verification.then(
    () => "accepted",
    (error: { readonly code: string; readonly part?: string; readonly kind?: string }) =>
      error.kind ?? (error.part === undefined ? error.code : `${error.code} ${error.part}`),
  );
}
