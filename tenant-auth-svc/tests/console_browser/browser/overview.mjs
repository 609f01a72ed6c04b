// The overview while the database goes away and comes back. The last steps: they break what the others need.

import assert from "node:assert/strict";

import { startDatabase, stopDatabase } from "./database.mjs";
import { CONSOLE, PATIENCE, logIn, open, picture } from "./page.mjs";

const plotsMove = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await logIn(page, process.env.VIEWER);
  await page.goto(CONSOLE);
  const plots = () => page.locator("main svg").evaluateAll((all) => all.map((plot) => plot.outerHTML).join());
  const before = await plots();
  const height = () => page.evaluate(() => document.documentElement.scrollHeight);
  const heightBefore = await height();
  await page.waitForFunction(
    (old) => [...document.querySelectorAll("main svg")].map((plot) => plot.outerHTML).join() !== old,
    before,
    { timeout: PATIENCE },
  );
  assert.equal(await height(), heightBefore, "nothing jumps");
  assert.deepEqual(complaints, []);
  await context.close();
};

const outageIsShownAndEverythingReadableStays = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await logIn(page, process.env.OPERATOR);
  await page.goto(CONSOLE);
  await page.getByRole("heading", { name: "Everything works." }).waitFor();
  await stopDatabase();
  const stoppedAt = performance.now();
  await page.getByRole("heading", { name: /Database unreachable/ }).waitFor();
  console.log(`the outage was shown after ${Math.round(performance.now() - stoppedAt)} ms`);
  await picture(page, "outage");
  for (const [name, path] of [
    ["outage-tenants", "/tenants"],
    ["outage-tenant", "/tenants/initech"],
    ["outage-audit", "/audit"],
  ]) {
    const answer = await page.goto(CONSOLE + path);
    assert.equal(answer.status(), 503, path);
    await page.getByRole("alert").first().waitFor();
    await page.getByRole("navigation").getByText("Overview").waitFor();
    await picture(page, name);
  }
  await page.goto(CONSOLE);
  await page.getByRole("heading", { name: /Database unreachable/ }).waitFor();
  await startDatabase();
  const startedAt = performance.now();
  await page.getByRole("heading", { name: "Everything works." }).waitFor();
  console.log(`its end was shown after ${Math.round(performance.now() - startedAt)} ms`);
  assert.deepEqual(complaints, []);
  await context.close();
};

export const steps = [plotsMove, outageIsShownAndEverythingReadableStays];
