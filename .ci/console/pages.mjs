// Opens every page of the console in a real browser: axe-core finds no violation, in both themes and on a narrow screen,
// and nothing is wider than the screen. With CONSOLE_PICTURES, saves a picture of each.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { CONSOLE_URL: url, CONSOLE_LINK: link, CONSOLE_CHROMIUM: program, CONSOLE_PICTURES: pictures, CONSOLE_TABLE: table } = process.env;
// Examples of the parameters of paths, from the demo data.
const EXAMPLES = { project_id: "proj_8f2c4", key_id: "key_7d0", token_id: "tok_2c9", user_id: "usr_8f2" };

const paths = [...readFileSync(table, "utf8").matchAll(/Page::(?:new|open)\(\s*"([^"]+)"/g)].map(([, path]) =>
  path.replace(/\{(\w+)\}/g, (_, name) => EXAMPLES[name] ?? assert.fail(`${path}: no example of ${name}`)),
);
assert.ok(paths.length > 5, "pages of the table");
if (pictures) mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
const problems = [];

async function check(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  for (const { id, nodes } of violations) problems.push(`${name}: ${id}: ${nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
  const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (excess > 0) problems.push(`${name} is ${excess} px too wide`);
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
}

function watch(page) {
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    // 404 and 405 of pages that are opened on purpose.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(`${page.url()}: ${message.text()}`);
  });
}

try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const first = await context.newPage();
  watch(first);
  await first.goto(link);
  await check(first, "link");
  await first.getByRole("button", { name: "Sign in" }).click();
  await first.waitForURL(/\/console\/projects\//);
  const state = await context.storageState();

  const screens = [
    { name: "light", colorScheme: "light", viewport: { width: 1280, height: 860 } },
    { name: "dark", colorScheme: "dark", viewport: { width: 1280, height: 860 } },
    { name: "phone", colorScheme: "light", viewport: { width: 390, height: 844 } },
    { name: "phone-dark", colorScheme: "dark", viewport: { width: 390, height: 844 } },
  ];
  for (const { name, ...options } of screens) {
    const screen = await browser.newContext({ ...options, storageState: state });
    const page = await screen.newPage();
    watch(page);
    for (const path of [...paths, "/console/nothing"]) {
      const response = await page.goto(url + path);
      if (response.status() >= 500) problems.push(`${path}: ${response.status()}`);
      await check(page, `${path.replace("/console", "").replace(/\W+/g, "-").replace(/^-/, "") || "home"}.${name}`);
    }
    await screen.close();
  }
  assert.deepEqual(problems, []);
  console.log(`${paths.length} pages of the console have no violation in ${screens.length} settings`);
} finally {
  await browser.close();
}
