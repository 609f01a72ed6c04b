import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyPairKeyObjectResult } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { refusal } from "./support/principal-tokens.js";
import { clientOf, startService, temporaryFolder, withService } from "./support/service.js";
import { until } from "./support/until.js";

const pairs = {
  ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  EdDSA: () => generateKeyPairSync("ed25519"),
} as const satisfies Record<string, () => KeyPairKeyObjectResult>;

for (const [alg, pair] of Object.entries(pairs)) {
  test(`service: a principal token signed with ${alg}`, withService, async (t) => {
    const folder = await temporaryFolder(t);
    const keys = join(folder, "principal-keys.pem");
    await writeFile(keys, pair().privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    const forward = `127.0.0.1:${await freePort()}`;
    const { endpoint } = await startService(t, {
      folder,
      environment: {
        TENANT_AUTH_FORWARD_LISTEN: forward,
        TENANT_AUTH_PRINCIPAL_KEYS_FILE: keys,
        TENANT_AUTH_PRINCIPAL_ISSUER: "https://auth.example.com",
      },
    });
    const client = clientOf(t, endpoint, { timeoutMs: 10_000 });
    const verifier = client.principalVerifier({ audience: "billing" });
    await until("the client watches", () => client.watchState().live);
    const issue = { tenantId: "ten_demo", name: "CI", scopes: ["orders:read", "orders:write"] };
    const issued = await client.raw.admin.issueKey(issue);
    const keyId = issued.key?.keyId ?? "";

    const ask = async (audience: string): Promise<Response> =>
      await fetch(`http://${forward}/forward-auth?audience=${audience}`, {
        headers: { authorization: `Bearer ${issued.plaintext}` },
      });
    const admitted = await ask("billing");
    assert.equal(admitted.status, 200);
    const token = admitted.headers.get("x-tenant-principal") ?? "";
    const principal = await verifier.verify(token, { requiredScopes: ["orders:read"] });
    assert.deepEqual(
      [principal.tenantId, principal.keyId, principal.scopes],
      ["ten_demo", keyId, ["orders:read", "orders:write"]],
    );
    assert.ok(principal.expiresAt.getTime() - principal.issuedAt.getTime() <= 60_000);
    assert.equal(await refusal(verifier.verify(token, { requiredScopes: ["x"] })), "INSUFFICIENT_SCOPE");
    const elsewhere = (await ask("orders")).headers.get("x-tenant-principal") ?? "";
    assert.equal(await refusal(verifier.verify(elsewhere)), "INVALID_PRINCIPAL aud");

    await client.raw.admin.revokeKey({ keyId, reason: "leaked" });
    await until(
      "the old token is outdated",
      async () => (await refusal(verifier.verify(token))) === "outdated",
    );
    assert.equal((await ask("billing")).status, 401);
  });
}

/** A port that was free a moment ago: the service does not choose one itself. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
