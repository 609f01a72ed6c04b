// People log in, and out.

import assert from "node:assert/strict";

import { CONSOLE, logIn, open, picture } from "./page.mjs";

const wrongTokensAndRolesAreRefused = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await page.goto(`${CONSOLE}/tenants`);
  assert.ok(page.url().startsWith(`${CONSOLE}/login?to=`), page.url());
  await picture(page, "login");
  await logIn(page, "tac_unknown");
  await page.getByText("No caller has this token.").waitFor();
  await logIn(page, process.env.MACHINE);
  await page.getByText("needs the role viewer or operator").waitFor();
  await picture(page, "login-refused");
  assert.deepEqual([await context.cookies(), complaints], [[], []]);
  await context.close();
};

const viewerMayReadAndChangeNothing = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await page.goto(`${CONSOLE}/tenants`);
  await page.getByLabel("Token").fill(process.env.VIEWER);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${CONSOLE}/tenants`);
  const [cookie] = await context.cookies();
  assert.deepEqual(
    [cookie.name, cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path],
    ["__Host-tenant-auth", true, true, "Strict", "/"],
  );
  assert.equal(await page.evaluate(() => document.cookie), "", "no script can read it");
  await page.goto(`${CONSOLE}/tenants/initech`);
  for (const change of ["Issue", "Suspend"]) {
    assert.equal(await page.getByRole("button", { name: change }).count(), 0, change);
  }
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL(`${CONSOLE}/login`);
  await context.addCookies([cookie]);
  await page.goto(`${CONSOLE}/tenants`);
  assert.ok(page.url().startsWith(`${CONSOLE}/login?to=`), "the cookie of a login that has ended");
  assert.deepEqual(complaints, []);
  await context.close();
};

const keyboardIsEnough = async (browser) => {
  const { context, page } = await open(browser);
  await logIn(page, process.env.VIEWER);
  await page.goto(CONSOLE);
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
  const reached = [];
  for (let step = 0; step < 8; step += 1) {
    await page.keyboard.press("Tab");
    reached.push(await focused());
  }
  assert.deepEqual(reached, [
    "Skip to the content", "tenant-auth", "Overview", "Tenants and keys", "Audit log", "find", "Find", "Log out",
  ]);
  await context.close();
};

export const steps = [wrongTokensAndRolesAreRefused, viewerMayReadAndChangeNothing, keyboardIsEnough];
