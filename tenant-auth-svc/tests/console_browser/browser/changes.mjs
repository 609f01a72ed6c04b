// An operator finds a key and changes it.

import assert from "node:assert/strict";

import { CONSOLE, logIn, open, picture } from "./page.mjs";

const issued = async (page) => {
  await page.goto(`${CONSOLE}/tenants/globex`);
  await page.getByText("Issue a key").click();
  await page.getByLabel("Name", { exact: true }).fill("made in a browser");
  await page.getByLabel("Scopes, separated by spaces").fill("orders:read");
  await page.locator("form[action$='/keys']").getByLabel(/reason/i).fill("a customer asked for it");
  await page.getByRole("button", { name: "Issue the key" }).click();
  await page.getByText("made in a browser").first().waitFor();
};

const keyIsIssuedAndShownOnce = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await logIn(page, process.env.OPERATOR);
  await issued(page);
  const plaintext = await page.locator("#new-key").textContent();
  assert.match(plaintext, /^ta_[A-Za-z0-9]+$/);
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), plaintext);
  await picture(page, "key-issued");
  await page.goto(`${CONSOLE}/tenants/globex`);
  assert.equal((await page.content()).includes(plaintext), false, "it is shown once");
  assert.deepEqual(complaints, []);
  await context.close();
};

const pastedKeyIsFoundAndRevokedEverywhere = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await logIn(page, process.env.OPERATOR);
  await page.getByLabel("Find a tenant or a key").fill(process.env.KEY);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Initech 3" }).waitFor();
  assert.match(page.url(), /\/keys\/key_[0-9a-f]+$/);
  await picture(page, "key");
  await page.getByText("Why was this denied?").first().click();
  await page.getByText("Revoke", { exact: true }).click();
  await page.locator("form[action$='/revoke']").getByLabel(/reason/i).fill("found in a public repository");
  await page.getByRole("button", { name: "Revoke the key" }).click();
  await page.getByText("by 3 of 3 replicas").waitFor();
  await page.getByText("found in a public repository").first().waitFor();
  await page.getByText("otto").first().waitFor();
  await picture(page, "key-revoked");
  assert.deepEqual(complaints, []);
  await context.close();
};

const changesAreInTheAuditLogUnderThePersonsName = async (browser) => {
  const { context, page } = await open(browser);
  await logIn(page, process.env.VIEWER);
  await page.goto(`${CONSOLE}/audit?caller=otto`);
  const rows = page.getByRole("row").filter({ hasText: "otto" });
  for (const action of ["key.issue", "key.revoke"]) {
    await rows.filter({ hasText: action }).first().waitFor();
  }
  await picture(page, "audit-filtered");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Export as CSV" }).click()]);
  assert.match(download.suggestedFilename(), /\.csv$/);
  await context.close();
};

export const steps = [keyIsIssuedAndShownOnce, pastedKeyIsFoundAndRevokedEverywhere, changesAreInTheAuditLogUnderThePersonsName];
