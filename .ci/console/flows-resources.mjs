// Resources in a real browser: a volume is created and watched, drifts, is restored and deleted.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { picture, project, run, signIn } from "./support.mjs";

// Changes the objects of the simulation, as somebody does at the provider's own console. The simulation has them in the
// server's private database.
function atProvider(sql) {
  const data = process.env.CLOUDAPI_DATA_DIR;
  const pid = readdirSync(data, { recursive: true }).find((file) => file.endsWith("postmaster.pid"));
  const [, , , port, socket] = readFileSync(join(data, pid), "utf8").split("\n");
  execFileSync("psql", ["-h", socket, "-p", port, "-U", "cloudapi", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"], { stdio: ["ignore", "ignore", "inherit"] });
}

async function createVolume(page, name) {
  await page.goto(`${project}/resources`);
  await page.getByRole("link", { name: "Create a resource" }).first().click();
  await page.getByRole("link", { name: "Volume at sim" }).click();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Size (GiB)").fill("20");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.waitForURL(/resources\/res_[0-9a-f]+$/);
}

await run({
  async "a volume converges, drifts, is restored and deleted"() {
    const page = await signIn();
    await createVolume(page, "flow");
    await page.getByText("is being created").waitFor();
    await page.locator(".title .badge", { hasText: "Active" }).waitFor();
    await picture(page, "resource");
    const reference = await page.locator("dd .copy code").first().textContent();
    atProvider(`UPDATE sim_objects SET spec = '{"size_gib": 19}' WHERE reference = '${reference}'`);

    const dialog = page.getByRole("dialog");
    await page.getByText("More", { exact: true }).click();
    await page.getByRole("link", { name: "Compare with the provider" }).click();
    await dialog.getByRole("button", { name: "Compare now" }).click();
    await page.getByText("It was changed outside CloudAPI").waitFor();
    const row = page.locator(".condition .diff tbody tr");
    assert.match(await row.textContent(), /size_gib\s*20\s*19/);
    await picture(page, "drift");
    await page.getByRole("link", { name: "Restore" }).click();
    await dialog.getByRole("button", { name: "Restore" }).click();
    await page.getByText("It was changed outside CloudAPI").waitFor({ state: "detached" });
    await page.locator(".title .badge", { hasText: "Active" }).waitFor();

    await page.getByRole("link", { name: "Change" }).click();
    await page.getByLabel("Size (GiB)").fill("40");
    await page.getByRole("button", { name: "Review the change" }).click();
    await page.getByText("Nothing is changed yet").waitFor();
    await picture(page, "plan");
    await page.getByRole("button", { name: "Apply the change" }).click();
    await page.getByText("Update").first().waitFor();
    await page.getByRole("link", { name: "Delete" }).waitFor();

    await page.getByRole("link", { name: "Delete" }).click();
    await dialog.getByLabel("Type the name").fill("flow");
    await picture(page, "delete");
    await dialog.getByRole("button", { name: "Delete the resource" }).click();
    await page.locator(".title .badge", { hasText: "Deleted" }).waitFor();
  },

  async "a volume is created, changed and deleted without scripts"() {
    const page = await signIn({ javaScriptEnabled: false });
    await createVolume(page, "plain");
    while ((await page.locator(".title .badge", { hasText: "Active" }).count()) === 0) await page.reload();
    await page.getByRole("link", { name: "Change" }).click();
    await page.getByLabel("Size (GiB)").fill("0");
    await page.getByRole("button", { name: "Review the change" }).click();
    await page.getByText("Must be at least 1").first().waitFor();
    await page.getByLabel("Size (GiB)").fill("30");
    await page.getByRole("button", { name: "Review the change" }).click();
    await page.getByRole("button", { name: "Back to the form" }).click();
    assert.equal(await page.getByLabel("Size (GiB)").inputValue(), "30", "what was typed is kept");
    await page.getByRole("button", { name: "Review the change" }).click();
    await page.getByRole("button", { name: "Apply the change" }).click();
    while ((await page.getByRole("link", { name: "Delete" }).count()) === 0) await page.reload();
    await page.getByRole("link", { name: "Delete" }).click();
    await page.getByLabel("Type the name").fill("plain");
    await page.getByRole("button", { name: "Delete the resource" }).click();
    await page.getByText("is being deleted").waitFor();
  },
});
