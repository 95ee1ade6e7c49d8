// Invites a person who joins in another browser, changes the role and removes the person; creates a token and revokes it; ends
// sessions and sets a password.

import assert from "node:assert/strict";
import { call, demo, link, picture, project, run, signIn, url, visitor } from "./support.mjs";

const NEW = "correct horse battery staple";

await run({
  async "a person is invited, joins in another browser, gets another role and is removed"() {
    const page = await signIn();
    await page.goto(`${project}/members`);
    await page.getByRole("link", { name: "Invite" }).click();
    await page.getByLabel("Email").fill("linus@example.com");
    await page.getByLabel("Viewer").check();
    await page.getByRole("button", { name: "Create the invitation" }).click();
    const invitation = await page.getByLabel("Invitation link").inputValue();
    assert.ok(invitation.startsWith(`${url}/console/invitation?invitation=inv_`), invitation);
    await picture(page, "invited");
    await page.reload();
    assert.ok(!(await page.content()).includes("inv_"), "a reload does not show the link");

    const other = await visitor();
    await other.goto(invitation);
    await other.getByLabel("Password").fill("password1234");
    await other.getByRole("button", { name: "Accept and sign in" }).click();
    await other.getByText("is a common password").first().waitFor();
    await picture(other, "invitation");
    await other.getByLabel("Password").fill(NEW);
    await other.getByRole("button", { name: "Accept and sign in" }).click();
    await other.waitForURL(project);
    await other.goto(`${project}/members`);
    assert.equal(await other.getByRole("link", { name: "Invite" }).count(), 0, "a viewer does not invite");

    await page.goto(`${project}/members?email=linus`);
    await page.getByRole("link", { name: "linus@example.com" }).click();
    await page.getByRole("link", { name: "Change the role" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Admin").check();
    await picture(page, "role");
    await dialog.getByRole("button", { name: "Save" }).click();
    await page.getByText("The role is changed").waitFor();
    await other.reload();
    await other.getByRole("link", { name: "Invite" }).waitFor();

    await page.getByRole("link", { name: "Remove" }).click();
    await dialog.getByLabel("Type the email address").fill("linus@example.com");
    await picture(page, "remove");
    await dialog.getByRole("button", { name: "Remove the member" }).click();
    await page.getByText("has no access any more").waitFor();
    await other.goto(`${project}/keys`);
    assert.equal(await other.getByRole("link", { name: "Create a key" }).count(), 0, "the access has ended");
  },

  async "a token is created, used, found by its issuer and revoked, and then refused"() {
    const page = await signIn();
    await page.goto(`${project}/tokens`);
    await page.getByRole("link", { name: "Create a token" }).click();
    await page.getByLabel("Name").fill("flow token");
    await page.getByLabel("Works for").selectOption("1 hour");
    await page.getByRole("button", { name: "Create the token" }).click();
    const secret = await page.getByLabel("Secret", { exact: true }).inputValue();
    await picture(page, "token");
    assert.equal(await call(`/v1/projects/${demo}`, secret), 200);
    await page.getByRole("link", { name: "I have stored the secret" }).click();
    await page.getByRole("list").getByRole("link", { name: "ada@example.com" }).click();
    await page.getByRole("link", { name: "flow token" }).click();
    await picture(page, "chain");
    await page.getByRole("link", { name: "Revoke" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Type the name").fill("flow token");
    await dialog.getByRole("button", { name: "Revoke the token" }).click();
    await page.getByText("is revoked").waitFor();
    assert.equal(await call(`/v1/projects/${demo}`, secret), 401);
    await page.goto(`${project}/tokens`);
    await page.getByLabel("Status").selectOption("Revoked");
    await page.getByRole("link", { name: "ci-token", exact: true }).waitFor({ state: "detached" });
    await page.getByRole("link", { name: "flow token" }).waitFor();
    await picture(page, "tokens");
  },

  async "sessions end on the account page, and a link sets a password"() {
    const email = "grace@example.com";
    const [page, other] = [await signIn({ email }), await signIn({ email })];
    await page.getByLabel(/^Account/).click();
    await page.getByRole("link", { name: "Account" }).click();
    await page.getByText("This session").waitFor();
    await picture(page, "sessions");
    await page.getByRole("button", { name: "End all other sessions" }).click();
    await page.getByText("All other sessions have ended.").waitFor();
    await other.goto(`${project}/keys`);
    assert.match(other.url(), /\/console\/sign-in/);

    await page.getByRole("link", { name: "Set a password" }).click();
    await page.getByLabel("Sign-in link").fill(link(email));
    await page.getByLabel("New password").fill(NEW);
    await page.getByRole("button", { name: "Set the password" }).click();
    await page.getByText("The password is changed.").waitFor();
    await other.getByLabel("Email").fill(email);
    await other.getByLabel("Password").fill(NEW);
    await other.getByRole("button", { name: "Sign in" }).click();
    await other.waitForURL(`${project}/keys`);
    await page.getByRole("link", { name: "Change the password" }).click();
    await picture(page, "password");
  },
});
