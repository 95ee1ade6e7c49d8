// Opens every page of the console in a real browser: axe-core finds no violation, in both themes and on a narrow screen,
// and nothing is wider than the screen. With CONSOLE_PICTURES, saves a picture of each.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { api, browser, demo, url } from "./support.mjs";

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { CONSOLE_LINK: link, CONSOLE_PICTURES: pictures, CONSOLE_TABLE: table } = process.env;
// Path templates of the table, without streams and files.
const rows = readFileSync(table, "utf8").split("Page::").slice(1).filter((row) => !row.includes(".not_html()"));
const templates = rows.map((row) => row.match(/^(?:new|open)\(\s*"([^"]+)"/)?.[1]).filter(Boolean);
assert.ok(templates.length > 5, "pages of the table");
if (pictures) mkdirSync(pictures, { recursive: true });

const problems = [];

// Objects of the demo project for the parameters of paths.
async function makeExamples() {
  const newest = async (path) => (await api("GET", `${path}?project_id=${demo}&order=desc&limit=1`)).data[0]?.id;
  await api("POST", "/v1/keys", { project_id: demo, name: "example", scopes: ["users:read"] });
  const examples = { project_id: demo, key_id: "key_7d0", token_id: "tok_2c9", user_id: "usr_8f2" };
  while (!examples.event_id) examples.event_id = await newest("/v1/events");
  examples.entry_id = await newest("/v1/audit-logs");
  const create = async (kind, name, spec) => {
    const { resource, operation } = await api("POST", "/v1/resources", { project_id: demo, kind, name, spec, labels: { env: "demo" } });
    while ((await api("GET", `/v1/resources/${resource.id}`)).status.phase !== "active") await new Promise((next) => setTimeout(next, 100));
    return { resource_id: resource.id, operation_id: operation.id };
  };
  const { resource_id: volume } = await create("storage.volume", "data", { size_gib: 20 });
  Object.assign(examples, await create("compute.instance", "web-1", { size: "small", image: "debian-12", volumes: [volume] }));
  const hook = { project_id: demo, url: "https://receiver.invalid/hooks", event_types: ["key.created", "key.revoked"] };
  examples.webhook_id = (await api("POST", "/v1/webhooks", { ...hook, description: "Notifies the billing service" })).id;
  await api("POST", `/v1/webhooks/${examples.webhook_id}/test`, {});
  while (!examples.delivery_id) {
    await new Promise((next) => setTimeout(next, 200));
    // With the result of its first attempt.
    examples.delivery_id = (await api("GET", `/v1/webhooks/${examples.webhook_id}/deliveries`)).data.find(({ attempts }) => attempts.length)?.id;
  }
  return examples;
}

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
  const examples = await makeExamples();
  const fill = (template) => template.replace(/\{(\w+)\}/g, (_, name) => examples[name] ?? assert.fail(`${template}: no example of ${name}`));
  const paths = templates.map(fill);

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
