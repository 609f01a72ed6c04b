// A browser window on the console, with the checks that hold on every page.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const CONSOLE = process.env.CONSOLE;
/** How long to wait for a part that changes by itself: long, for a busy machine. */
export const PATIENCE = 60_000;

/** Opens a window. Errors of scripts and violations of the content security policy fail the run. */
export const open = async (browser, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, timezoneId: "Asia/Tokyo", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`error: ${error}`));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    // A page that says so with its status is also logged as an error of the network.
    const isStatus = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isStatus) complaints.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${CONSOLE}/`) && url !== CONSOLE) complaints.push(`external resource: ${url}`);
    if (url.includes(process.env.KEY)) complaints.push(`a key in a URL: ${url}`);
  });
  return { context, page, complaints };
};

export const logIn = async (page, token) => {
  await page.goto(`${CONSOLE}/login`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForLoadState();
};

/** Checks a page by axe-core: labels, contrast, structure. */
export const checkAccessibility = async (page, name) => {
  // Through the debugger, which the content security policy does not concern.
  await page.evaluate(AXE);
  const found = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  const violations = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
  assert.deepEqual(violations, [], `accessibility of ${name}`);
};

/** Checks that nothing is wider than the window. */
export const checkWidth = async (page, name) => {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= window, `${name} is ${content} px wide in a window of ${window} px`);
};

/** Takes pictures of a page, light and dark, wide and narrow, and checks each. */
export const picture = async (page, name) => {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const [device, width, height] of [["", 1280, 900], ["-phone", 360, 740]]) {
      await page.setViewportSize({ width, height });
      await page.screenshot({ path: `${process.env.PICTURES}/${name}-${scheme}${device}.png`, fullPage: true });
      await checkWidth(page, `${name} (${device || "wide"})`);
    }
    await page.setViewportSize({ width: 1280, height: 900 });
    await checkAccessibility(page, `${name} (${scheme})`);
  }
  await page.emulateMedia({ colorScheme: "light" });
};
