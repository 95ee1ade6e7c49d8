// Uses the pages under /docs in a real browser: the search box, and the layout on a narrow screen.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const url = process.env.VALIDATE_URL;
const browser = await chromium.launch({ executablePath: process.env.VALIDATE_CHROMIUM, args: ["--no-sandbox"] });
const problems = [];

async function open(viewport) {
  const page = await browser.newPage({ viewport });
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
  page.on("console", (message) => message.type() === "error" && problems.push(`${page.url()}: ${message.text()}`));
  page.on("requestfailed", (request) => {
    const reason = request.failure()?.errorText;
    // Leaving a page aborts what it still loads.
    if (reason !== "net::ERR_ABORTED") problems.push(`${request.url()}: ${reason}`);
  });
  return page;
}

// Types into the search box. Returns the kinds of the results and their links.
async function search(page, words) {
  await page.fill("#docs-search input", words);
  await page.waitForFunction(() => document.querySelector("#docs-search [role=status]").textContent.includes("result"));
  return page.$$eval("#docs-search .results a", (links) =>
    links.map((link) => ({ kind: link.querySelector(".kind").textContent, label: link.querySelector("b").textContent })),
  );
}

try {
  const page = await open({ width: 1280, height: 800 });
  for (const path of ["/docs", "/docs/guides", "/docs/guides/quick-start", "/docs/errors"]) {
    const response = await page.goto(url + path);
    assert.equal(response.status(), 200, path);
    // The slash key moves to the search box of every page.
    await page.waitForSelector("#docs-search input");
    await page.keyboard.press("/");
    assert.ok(await page.evaluate(() => document.activeElement.closest("#docs-search") !== null), `${path}: the search box`);
  }
  // The error codes of an operation link to their pages: the uncommon ones in its description, and all at the responses.
  await page.goto(`${url}/docs#/keys/keys_create`);
  await page.waitForSelector('.opblock-description a[href="/docs/errors/scope_escalation"]');
  await page.waitForSelector('tr[data-code="401"] a[href="/docs/errors/token_revoked"]');
  const found = await search(page, "idempotency");
  for (const kind of ["Guide", "Error"]) assert.ok(found.some((it) => it.kind === kind), `a result of kind ${kind}`);
  const operations = await search(page, "create a key");
  assert.ok(operations.some((it) => it.kind === "Operation" && it.label === "POST /v1/keys"), "the operation by its words");
  // An exact error code comes first, and Enter opens it.
  const [first] = await search(page, "idempotency_key_reused");
  assert.deepEqual(first, { kind: "Error", label: "idempotency_key_reused" });
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/docs\/errors/);
  assert.equal((await search(page, "zzzz")).length, 0);
  // A guide is found by its text, with the keyboard only.
  await search(page, "retry loop");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/docs\/guides\//);

  const phone = await open({ width: 390, height: 844 });
  for (const path of ["/docs", "/docs/guides", "/docs/guides/quick-start", "/docs/errors"]) {
    await phone.goto(url + path);
    const excess = await phone.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(excess <= 0, `${path} is ${excess} px too wide for a phone`);
  }
  assert.deepEqual(problems, []);
  console.log("the pages under /docs work in a browser");
} finally {
  await browser.close();
}
