// Uses the console in a real browser as a person does: by mouse, by keyboard alone, and without scripts.

import assert from "node:assert/strict";
import { call, demo, picture, project, run, signIn, url } from "./support.mjs";

await run({
  async "a key is created, used, rotated in a dialog and revoked, and then refused"() {
    const page = await signIn();
    await page.goto(`${project}/keys`);
    await page.getByRole("link", { name: "Create a key" }).click();
    await page.getByLabel("Name").fill("flow");
    await page.getByText("Full access").click();
    await page.getByText("Scopes", { exact: true }).click();
    assert.ok(await page.getByRole("checkbox", { name: "write" }).first().isChecked(), "a preset ticks its scopes");
    await page.getByRole("button", { name: "Create the key" }).click();
    const secret = await page.getByLabel("Secret", { exact: true }).inputValue();
    assert.match(secret, /^sk_live_/);
    await picture(page, "created");
    assert.match(page.url(), /\/keys\/key_[0-9a-f]+$/, "the address is that of the key, so that a reload does not submit again");
    assert.equal(await call(`/v1/projects/${demo}`, secret), 200);
    await page.reload();
    assert.ok(!(await page.content()).includes(secret), "a reload does not show the secret");

    await page.getByRole("link", { name: "Rotate" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Rotate the key" }).waitFor();
    await picture(page, "dialog");
    await dialog.getByRole("button", { name: "Rotate the key" }).click();
    const rotated = await dialog.getByLabel("Secret", { exact: true }).inputValue();
    assert.equal(await call(`/v1/projects/${demo}`, rotated), 200);
    await page.keyboard.press("Escape");
    await page.getByText("Two secrets work").waitFor();

    await page.getByRole("link", { name: "Revoke" }).click();
    await dialog.getByLabel("Type the name").fill("wrong");
    await dialog.getByRole("button", { name: "Revoke the key" }).click();
    await dialog.getByText("This is not the name of the key").first().waitFor();
    await picture(page, "rejected");
    await dialog.getByLabel("Type the name").fill("flow");
    await dialog.getByRole("button", { name: "Revoke the key" }).click();
    await page.getByText("is revoked").waitFor();
    await picture(page, "revoked");
    for (const old of [secret, rotated]) assert.equal(await call(`/v1/projects/${demo}`, old), 401);
  },

  async "the back button does not show a secret again"() {
    const page = await signIn();
    await page.goto(`${project}/keys/new`);
    await page.getByRole("button", { name: "Create the key" }).click();
    const secret = await page.getByLabel("Secret", { exact: true }).inputValue();
    await page.getByRole("link", { name: "I have stored the secret" }).click();
    await page.waitForURL(/key_[0-9a-f]+$/);
    await page.goBack();
    await page.waitForLoadState();
    assert.ok(!(await page.content()).includes(secret));
  },

  async "a list is filtered while typing"() {
    const page = await signIn();
    await page.goto(`${project}/keys`);
    await page.getByLabel("Name").fill("spare");
    await page.getByRole("link", { name: "issuer of ci-token" }).waitFor({ state: "detached" });
    await page.getByRole("link", { name: "spare" }).waitFor();
    assert.match(page.url(), /name=spare/);
  },

  async "the keyboard alone opens pages and objects"() {
    const page = await signIn();
    await page.keyboard.press("Control+k");
    await page.keyboard.type("keys");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${project}/keys`);
    await page.keyboard.press("Control+k");
    await page.keyboard.type("key_7d0");
    await picture(page, "palette");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${project}/keys/key_7d0`);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "the first stop skips the navigation");
  },

  async "the theme is switched and kept"() {
    const page = await signIn({ colorScheme: "light" });
    await page.getByLabel(/^Account/).click();
    await picture(page, "account");
    const saved = page.waitForResponse(/\/console\/theme/);
    await page.getByRole("button", { name: "Dark" }).click();
    await saved;
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  },

  async "everything works without scripts"() {
    const page = await signIn({ javaScriptEnabled: false });
    await page.goto(`${project}/keys`);
    await page.getByLabel("Name").fill("spare");
    await page.getByRole("button", { name: "Filter" }).click();
    await page.getByRole("link", { name: "spare" }).click();
    await page.getByRole("link", { name: "Rotate" }).click();
    await page.getByRole("button", { name: "Rotate the key" }).click();
    assert.match(await page.getByLabel("Secret", { exact: true }).inputValue(), /^sk_live_/);
    await page.goto(`${project}/keys/key_7d1/revoke`);
    await page.getByLabel("Type the name").fill("spare");
    await page.getByRole("button", { name: "Revoke the key" }).click();
    await page.getByText("is revoked").waitFor();
    await page.getByLabel(/^Account/).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("You are signed out.").waitFor();
    await page.goto(`${project}/keys`);
    assert.match(page.url(), /\/console\/sign-in\?return=/);
  },

  async "a form of another site changes nothing"() {
    const page = await signIn();
    const cookies = await page.context().cookies();
    assert.ok(cookies.find((cookie) => cookie.value.startsWith("cbs_")).sameSite === "Strict");
    const other = await page.context().newPage();
    await other.setContent(`<form method="post" action="${url}/console/sign-out"><button>Go</button></form>`);
    const answer = other.waitForResponse(/sign-out/);
    await other.getByRole("button").click();
    assert.equal((await answer).status(), 403);
    assert.equal((await page.goto(`${project}/keys`)).url(), `${project}/keys`, "still signed in");
  },

  async "two tabs share a session, and both end with it"() {
    const page = await signIn();
    const second = await page.context().newPage();
    await second.goto(`${project}/keys/new`);
    await second.getByLabel("Name").fill("typed in the second tab");
    await page.goto(`${url}/console/sign-out`);
    await page.getByRole("button", { name: "Sign out here" }).click();
    await second.getByRole("button", { name: "Create the key" }).click();
    await second.getByText("what you typed is kept").waitFor();
    assert.ok((await second.locator("input[name=_typed]").inputValue()).includes("second%20tab"));
  },
});
