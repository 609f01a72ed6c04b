// The steps, in order. Each is a function that gets the browser. The first failure ends the run.

import { chromium } from "playwright-core";

import { steps as attacks } from "./attacks.mjs";
import { steps as changes } from "./changes.mjs";
import { steps as logins } from "./logins.mjs";
import { steps as overview } from "./overview.mjs";
import { steps as pages } from "./pages.mjs";

// Without the sandbox, which needs rights that a container may lack: the pages are our own.
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
let failed = false;
for (const step of [logins, pages, changes, attacks, overview].flat()) {
  const startedAt = performance.now();
  try {
    await step(browser);
    console.log(`console in Chromium ${browser.version()}: ${step.name} (${Math.round(performance.now() - startedAt)} ms)`);
  } catch (error) {
    console.log(`console in Chromium: ${step.name} FAILED: ${error.stack ?? error}`);
    failed = true;
    break;
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
