// What others do to make a person's browser act, or to make a page act in it.

import assert from "node:assert/strict";
import { createServer } from "node:http";

import { CONSOLE, logIn, open, picture } from "./page.mjs";

/** Serves one page of another site. */
const serve = async (html) => {
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(html);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, url: `http://localhost:${server.address().port}/` };
};

const hostileNamesAreInert = async (browser) => {
  const { context, page, complaints } = await open(browser);
  await logIn(page, process.env.OPERATOR);
  for (const [name, path] of [
    ["tenants", "/tenants"],
    ["hostile-tenant", `/tenants/${process.env.HOSTILE_TENANT}`],
    ["hostile-key", "/keys/key_hostile_0"],
    ["hostile-audit", `/audit?tenant=${process.env.HOSTILE_TENANT}`],
  ]) {
    const answer = await page.goto(CONSOLE + path);
    assert.equal(answer.status(), 200, path);
    assert.equal(await page.evaluate(() => globalThis.hostile), undefined, path);
    assert.equal(await page.locator("main script, main img, main [onerror], main [onfocus]").count(), 0, path);
    await picture(page, name);
  }
  assert.deepEqual(complaints, []);
  await context.close();
};

const otherSitesCanNeitherFrameNorPost = async (browser) => {
  const { context, page } = await open(browser);
  await logIn(page, process.env.OPERATOR);
  const framing = await serve(`<iframe src="${CONSOLE}/"></iframe>`);
  await page.goto(framing.url);
  const frame = await page.locator("iframe").elementHandle().then((element) => element.contentFrame());
  await frame.waitForLoadState();
  assert.equal(await frame.getByText("tenant-auth").count(), 0, "nothing is shown in a frame");
  const posting = await serve(`<form method="post" action="${CONSOLE}/logout"><button>Win a prize</button></form>`);
  await page.goto(posting.url);
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url() === `${CONSOLE}/logout`),
    page.getByRole("button").click(),
  ]);
  assert.equal(answer.status(), 403);
  await page.goto(CONSOLE);
  await page.getByRole("button", { name: "Log out" }).waitFor();
  await context.close();
  framing.server.close();
  posting.server.close();
};

export const steps = [hostileNamesAreInert, otherSitesCanNeitherFrameNorPost];
