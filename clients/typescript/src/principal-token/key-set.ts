import type { CryptoKey } from "jose";
import { TenantAuthError } from "../error.js";

/** A key that verifies principal tokens, and the only algorithm that it may be used with. */
export interface VerificationKey {
  readonly key: CryptoKey;
  readonly alg: "ES256" | "EdDSA";
}

/** The usable keys of an answer, by their id, and the issuer of the tokens that they verify. */
export interface KeySet {
  readonly issuer: string;
  readonly keys: ReadonlyMap<string, VerificationKey>;
}

/** Reads a JSON Web Key Set. Keys that this version cannot use are skipped; without any other, it throws. */
export async function readKeySet(jwks: string, issuer: string): Promise<KeySet> {
  const read = await Promise.all(entries(jwks).map(verificationKey));
  const keys = new Map(read.filter((key) => key !== undefined));
  if (keys.size > 0 && issuer !== "") return { issuer, keys };
  throw new TenantAuthError("UNAVAILABLE", "the service has no usable keys for principal tokens", {
    reason: "NO_PRINCIPAL_KEYS",
  });
}

function entries(jwks: string): readonly Entry[] {
  try {
    const { keys } = JSON.parse(jwks) as { keys: readonly Entry[] };
    return Array.isArray(keys) ? keys : [];
  } catch {
    return [];
  }
}

/** An entry of a key set, of which nothing is known yet. */
type Entry = Readonly<Partial<Record<"kid" | "kty" | "crv" | "alg" | "use" | "x" | "y", unknown>>> | null;

async function verificationKey(entry: Entry): Promise<[string, VerificationKey] | undefined> {
  const { kid, kty, crv, alg, use, x, y } = entry ?? {};
  if (typeof kid !== "string" || use !== "sig" || typeof x !== "string") return undefined;
  const { importJWK } = await import("jose");
  try {
    // Only the public parameters are imported, with the algorithm that fits them.
    if (kty === "EC" && crv === "P-256" && alg === "ES256" && typeof y === "string")
      return [kid, { alg, key: await importJWK({ kty, crv, x, y }, alg) }];
    if (kty === "OKP" && crv === "Ed25519" && alg === "EdDSA")
      return [kid, { alg, key: await importJWK({ kty, crv, x }, alg) }];
  } catch {
    // The parameters are not a point of the curve.
  }
  return undefined;
}
