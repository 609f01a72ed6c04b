import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as published from "@tenant-auth/client";
import { VERSION } from "../src/version.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

interface Manifest {
  readonly version: string;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
}

const manifest = JSON.parse(await readFile(`${root}package.json`, "utf8")) as Manifest;

test("VERSION equals the version in package.json", () => {
  assert.equal(VERSION, manifest.version);
});

test("Express 4 and 5 are both supported", () => {
  assert.equal(manifest.peerDependencies.express, "^4.18.0 || ^5.0.0");
  assert.equal(manifest.peerDependencies["@types/express"], "^4.17.0 || ^5.0.0");
});

test("the package contains exactly what it exports", async () => {
  const pack = ["pack", "--dry-run", "--json", "--ignore-scripts"];
  const { stdout } = await promisify(execFile)("npm", pack, { cwd: root });
  const [{ files }] = Object.values(JSON.parse(stdout)) as [{ files: { path: string }[] }];
  const packed = files.map(({ path }) => path);
  for (const entry of Object.values(manifest.exports)) {
    const paths = typeof entry === "string" ? [entry] : [entry.types, entry.default];
    for (const path of paths) assert.ok(packed.includes(path.replace("./", "")), path);
  }
  const strangers = packed.filter(
    (path) => !/^(dist\/.*\.(js|d\.ts)|README\.md|LICENSE|package\.json)$/.test(path),
  );
  assert.deepEqual(strangers, []);
});

/** The files and packages that an entry point imports. */
async function imports(entry: string): Promise<{ reached: Set<string>; packages: string[] }> {
  const reached = new Set<string>();
  const packages = new Set<string>();
  const follow = async (file: URL): Promise<void> => {
    if (reached.has(file.href)) return;
    reached.add(file.href);
    for (const [, name = ""] of (await readFile(file, "utf8")).matchAll(/(?:from|import) "([^"]+)"/g)) {
      const path = entry.endsWith(".d.ts") ? name.replace(/\.js$/, ".d.ts") : name;
      if (name.startsWith(".")) await follow(new URL(path, file));
      else if (!name.startsWith("node:")) packages.add(name.split("/").slice(0, 2).join("/"));
    }
  };
  await follow(new URL(`../../dist/${entry}`, import.meta.url));
  return { reached, packages: [...packages].sort() };
}

test("the entry point for MCP imports no SDK, neither its code nor its types", async () => {
  for (const entry of ["mcp.js", "mcp.d.ts"]) {
    const { reached, packages } = await imports(entry);
    assert.ok(reached.size > 10);
    assert.deepEqual(
      packages.filter((name) => /modelcontextprotocol|express/.test(name)),
      [],
    );
  }
});

test("the client entry point imports no optional package", async () => {
  const { reached, packages } = await imports("index.js");
  assert.ok(reached.size > 20);
  assert.deepEqual(packages, [
    "@bufbuild/protobuf",
    "@connectrpc/connect",
    "@connectrpc/connect-node",
    "proxy-from-env",
  ]);
  const offered = [
    "Client",
    "DeniedError",
    "PrincipalDeniedError",
    "TenantAuthError",
    "UsageQueueFullError",
    "UsageRecorder",
    "systemClock",
  ];
  assert.deepEqual(Object.keys(published).sort(), offered);
});
