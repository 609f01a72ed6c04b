// Every page, as it looks.

import assert from "node:assert/strict";

import { CONSOLE, logIn, open, picture } from "./page.mjs";

const everyPageIsAccessibleAndFitsAPhone = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await logIn(page, process.env.OPERATOR);
  for (const [name, path, status] of [
    ["overview", "/", 200],
    ["tenants", "/tenants", 200],
    ["tenant", "/tenants/initech", 200],
    ["audit", "/audit", 200],
    ["audit-empty", "/audit?target=nothing-has-this-id", 200],
    ["no-such-tenant", "/tenants/nobody", 404],
    ["no-such-page", "/nowhere", 404],
  ]) {
    const answer = await page.goto(CONSOLE + path);
    assert.equal(answer.status(), status, path);
    await picture(page, name);
  }
  assert.deepEqual(complaints, []);
  await context.close();
};

const pagesAreReadableWithoutJavaScript = async (browser) => {
  const { context, page } = await open(browser, { javaScriptEnabled: false });
  await logIn(page, process.env.VIEWER);
  for (const [path, text] of [
    ["/", "Everything works."],
    ["/tenants", "Acme Corp"],
    ["/tenants/initech", "Initech 3"],
    ["/audit", "key.issue"],
  ]) {
    await page.goto(CONSOLE + path);
    await page.locator("main").getByText(text).locator("visible=true").first().waitFor();
  }
  await context.close();
};

const timesAreInUtcWithTheLocalTimeOnHover = async (browser) => {
  const { context, page } = await open(browser);
  await logIn(page, process.env.VIEWER);
  await page.goto(`${CONSOLE}/tenants/initech`);
  const time = page.locator("main time").first();
  const [utc, shown, hover] = [await time.getAttribute("datetime"), await time.textContent(), await time.getAttribute("title")];
  assert.equal(shown, `${utc.slice(0, 10)} ${utc.slice(11, 19)} UTC`);
  // The browser is in Tokyo, nine hours ahead.
  const hour = (Number(utc.slice(11, 13)) + 9) % 12 || 12;
  assert.match(hover, new RegExp(`, ${hour}${utc.slice(13, 19)}.* local time$`));
  await context.close();
};

const pagesAreSmall = async (browser) => {
  const { context, page } = await open(browser);
  await logIn(page, process.env.VIEWER);
  const fresh = await open(browser, { storageState: await context.storageState() });
  const responses = [];
  // All but the stream of live parts, which does not end.
  fresh.page.on("response", (response) => response.url().endsWith("/events") || responses.push(response));
  await fresh.page.goto(CONSOLE);
  await fresh.page.waitForLoadState("load");
  const loaded = await fresh.page.evaluate(() => {
    const [navigation] = performance.getEntriesByType("navigation");
    return Math.round(navigation.loadEventEnd || navigation.domContentLoadedEventEnd);
  });
  const bodies = await Promise.all(responses.map((response) => response.body()));
  const bytes = bodies.reduce((sum, body) => sum + body.length, 0);
  assert.ok(responses.length >= 3, "the page, its style sheet and its script");
  console.log(`first page: ${bytes} bytes in all, shown after ${loaded} ms`);
  assert.ok(bytes <= 300 * 1024, `${bytes} bytes`);
  await fresh.context.close();
  await context.close();
};

export const steps = [everyPageIsAccessibleAndFitsAPhone, pagesAreReadableWithoutJavaScript, timesAreInUtcWithTheLocalTimeOnHover, pagesAreSmall];
