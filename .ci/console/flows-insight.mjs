// Reads usage and the audit log, changes the settings of a project and ends it, and gets around by the keyboard.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { call, demo, picture, project, run, signIn, url } from "./support.mjs";

// The rows of a CSV file (RFC 4180).
function parse(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\r\n") rows.push([]);
    if (end === "") break;
  }
  return rows.filter((row) => row.length > 1);
}

async function download(page, link) {
  const [file] = await Promise.all([page.waitForEvent("download"), link.click()]);
  return { name: file.suggestedFilename(), text: readFileSync(await file.path(), "utf8") };
}

async function createKey(page, name) {
  await page.goto(`${project}/keys/new`);
  await page.getByLabel("Name").fill(name);
  await page.getByText("Full access").click();
  await page.getByRole("button", { name: "Create the key" }).click();
  return page.getByLabel("Secret", { exact: true }).inputValue();
}

await run({
  async "usage of a month is read by key and route, and downloaded as CSV"() {
    const page = await signIn();
    const secret = await createKey(page, "=usage,flow");
    for (let count = 0; count < 7; count++) assert.equal(await call(`/v1/projects/${demo}`, secret), 200);
    await page.goto(`${project}/usage`);
    // Counts are written once a second.
    while (!(await page.getByRole("row", { name: /=usage,flow.* 7 / }).count())) await page.reload();
    await picture(page, "usage");
    await page.getByRole("link", { name: "Routes", exact: true }).click();
    await page.getByRole("row", { name: /GET \/v1\/projects\/\{project_id\}/ }).waitFor();
    await picture(page, "usage-routes");
    const { name, text } = await download(page, page.getByRole("link", { name: "Download CSV" }));
    assert.match(name, /^usage-proj_8f2c4-\d{4}-\d\d\.csv$/);
    const [header, ...rows] = parse(text);
    assert.deepEqual(header, ["day", "key_id", "key_name", "token_id", "token_name", "route", "requests"]);
    const used = rows.find((row) => row[2] === "'=usage,flow");
    assert.equal(used?.[6], "7", "a name that begins like a formula is text");

    const month = page.getByLabel("Month", { exact: true });
    const months = await month.locator("option").evaluateAll((options) => options.map(({ value }) => value));
    if (months.length > 1) {
      await month.selectOption(months[1]);
      await page.waitForURL(new RegExp(`period=${months[1]}`));
      await page.getByRole("link", { name: "Next month" }).click();
    } else {
      assert.equal(await page.getByRole("link", { name: "Previous month" }).count(), 0);
    }
    await page.getByRole("link", { name: "Keys", exact: true }).last().click();
    await page.getByRole("link", { name: "=usage,flow" }).click();
    await page.getByText("Requests this month").waitFor();
    await page.getByRole("row", { name: /GET \/v1\/projects\/\{project_id\}/ }).waitFor();
    await picture(page, "key-usage");
  },

  async "the audit log is filtered, and an entry shows before and after"() {
    const page = await signIn();
    await createKey(page, "before");
    const id = page.url().match(/key_[0-9a-f]+/)[0];
    await page.goto(`${project}/keys/${id}/edit`);
    await page.getByLabel("Name").fill("after");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("The key is changed").waitFor();
    await page.getByRole("link", { name: "All entries" }).click();
    await page.waitForURL(/audit\?target=/);
    await page.getByLabel("Action", { exact: true }).selectOption("key.updated");
    await page.getByRole("button", { name: "Filter" }).click();
    // Entries are sealed within a moment.
    while (!(await page.getByRole("link", { name: "key.updated" }).count())) await page.reload();
    assert.equal(await page.getByRole("link", { name: "key.created" }).count(), 0);
    await picture(page, "audit");
    await page.getByRole("link", { name: "key.updated" }).click();
    await page.locator("del", { hasText: "before" }).waitFor();
    await page.locator("ins", { hasText: "after" }).waitFor();
    await page.locator("main").getByText("ada@example.com").first().waitFor();
    await picture(page, "entry");
    const entry = page.url().match(/aud_[0-9a-f]+/)[0];
    await page.keyboard.press("Control+k");
    await page.keyboard.insertText(entry);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Place in the trail" }).waitFor();

    await page.goto(`${project}/audit?actor=nobody%21`);
    await page.locator("#e-actor").waitFor();
    await picture(page, "audit-rejected");
    await page.goto(`${project}/audit`);
    await page.getByText("Export", { exact: true }).click();
    await picture(page, "export");
    const { name, text } = await download(page, page.getByRole("link", { name: /NDJSON/ }));
    assert.equal(name, `audit-${demo}.ndjson`);
    assert.ok(JSON.parse(text.trim().split("\n").at(-1)).checkpoint, "the last line is signed");
  },

  async "a project is created, set up, archived and deleted"() {
    const page = await signIn();
    await page.keyboard.press("Control+k");
    await page.keyboard.type("create a proj");
    await picture(page, "palette-action");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${url}/console/projects/new`);
    await page.keyboard.type("Flow project");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "First steps" }).waitFor();
    await picture(page, "first-steps");
    const own = page.url();
    await page.getByText("Project: Flow project").click();
    await page.getByRole("link", { name: "Create a project" }).first().waitFor();
    await picture(page, "switcher");
    await page.keyboard.press("Escape");

    await page.getByRole("link", { name: "Settings" }).click();
    await page.getByLabel("Name", { exact: true }).fill("Flow project 2");
    await page.getByRole("button", { name: "Add a row" }).click();
    await page.getByLabel("Name 3").fill("cost-center");
    await page.getByLabel("Value 3").fill("4711");
    const other = await page.context().newPage();
    await other.goto(`${own}/settings`);
    await other.getByLabel("Name", { exact: true }).fill("Somebody else");
    await other.getByRole("button", { name: "Save" }).click();
    await other.getByText("The settings are saved.").waitFor();
    await other.close();
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Somebody else changed the project meanwhile").waitFor();
    await page.locator("del", { hasText: "Somebody else" }).waitFor();
    await picture(page, "conflict");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("The settings are saved.").waitFor();
    await picture(page, "settings");

    await page.getByRole("link", { name: "Archive" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Type the name").fill("Flow project");
    await dialog.getByRole("button", { name: "Archive the project" }).click();
    await dialog.getByText("This is not the name of the project").first().waitFor();
    await picture(page, "archive");
    await dialog.getByLabel("Type the name").fill("Flow project 2");
    await dialog.getByRole("button", { name: "Archive the project" }).click();
    await page.getByText("The project is archived.").waitFor();
    await picture(page, "archived");
    await page.getByRole("link", { name: "Delete" }).click();
    await dialog.getByLabel("Type the name").fill("Flow project 2");
    await picture(page, "delete");
    await dialog.getByRole("button", { name: "Delete the project" }).click();
    await page.getByText("“Flow project 2” is deleted").waitFor();
    assert.equal((await page.goto(`${own}/settings`)).status(), 404);
  },

  async "the palette is used by the keyboard alone"() {
    const page = await signIn();
    await page.keyboard.press("Control+k");
    const box = page.getByRole("combobox", { name: /Go to a page/ });
    await box.waitFor();
    await picture(page, "palette-empty");
    const chosen = () => page.locator("[role=option][aria-selected=true]").textContent();
    const first = await chosen();
    await page.keyboard.press("ArrowDown");
    assert.notEqual(await chosen(), first);
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    assert.equal(await page.locator("[role=option]").last().getAttribute("aria-selected"), "true", "it wraps around");
    await page.keyboard.type("no such page");
    await page.getByText("Nothing found").waitFor();
    await page.keyboard.press("Escape");
    await box.waitFor({ state: "hidden" });
    for (const [typed, path] of [["audit", /\/audit$/], ["usage", /\/usage$/], ["create a key", /\/keys\/new$/], [demo, /\/proj_8f2c4$/]]) {
      await page.keyboard.press("Control+k");
      await page.keyboard.type(typed);
      await page.keyboard.press("Enter");
      await page.waitForURL(path);
    }
  },

  async "usage, log and settings work without scripts"() {
    const page = await signIn({ javaScriptEnabled: false });
    await page.goto(`${project}/usage?by=route`);
    await page.getByRole("button", { name: "Show" }).click();
    assert.match(page.url(), /by=route&period=/);
    await page.getByRole("link", { name: "Audit log" }).click();
    await page.getByLabel("Action", { exact: true }).selectOption("project.updated");
    await page.getByRole("button", { name: "Filter" }).click();
    await page.goto(`${project}/settings`);
    await page.getByLabel("Name 1").fill("team");
    await page.getByLabel("Value 1").fill("core");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("The settings are saved.").waitFor();
    assert.equal(await page.getByLabel("Value 1").inputValue(), "core");
    await page.goto(`${project}/settings/archive`);
    await page.getByRole("button", { name: "Archive the project" }).waitFor();
  },
});
