// Webhooks in a real browser, with a receiver on this machine.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { picture, project, run, signIn } from "./support.mjs";

// What the receiver got, and the status that it answers with.
const received = [];
let status = 204;
const receiver = createServer(async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  received.push({ headers: request.headers, body });
  response.writeHead(status).end();
});
receiver.listen(0, "127.0.0.1");
await once(receiver, "listening");
const host = `127.0.0.1:${receiver.address().port}`;

function isSigned({ headers, body }, secret) {
  const key = Buffer.from(secret.replace("whsec_", ""), "base64");
  const text = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
  return headers["webhook-signature"].split(" ").includes(`v1,${createHmac("sha256", key).update(text).digest("base64")}`);
}

await run({
  async "a webhook is created, tested, broken, repaired, rotated and deleted"() {
    const page = await signIn();
    await page.goto(`${project}/webhooks`);
    await page.getByRole("link", { name: "Create a webhook" }).click();
    await page.getByLabel("URL", { exact: true }).fill(`http://${host}/hooks`);
    await page.getByLabel("Description").fill("flow");
    assert.ok(await page.getByRole("group", { name: "Types" }).isHidden(), "types are hidden while all are sent");
    await page.getByLabel("Events", { exact: true }).selectOption({ label: "Events of certain types" });
    await page.getByRole("button", { name: "Create the webhook" }).click();
    await page.getByText("Tick at least one type").first().waitFor();
    await page.getByRole("group", { name: "Key" }).getByLabel("created").check();
    await picture(page, "webhook-new");
    await page.getByRole("button", { name: "Create the webhook" }).click();
    const secret = await page.getByLabel("Secret", { exact: true }).inputValue();
    assert.match(secret, /^whsec_/);
    await page.getByText("Node.js", { exact: true }).click();
    await page.getByText("timingSafeEqual").first().waitFor();
    await picture(page, "webhook-created");
    await page.getByRole("link", { name: "I have stored the secret" }).click();

    await page.getByRole("button", { name: "Send a test event" }).click();
    await page.getByText("A test event is on its way").waitFor();
    // The list follows the delivery without a reload.
    await page.locator("#deliveries").getByText("Delivered").waitFor();
    assert.ok(isSigned(received.at(-1), secret), "the test is signed");
    await picture(page, "webhook");

    status = 500;
    await page.getByRole("button", { name: "Send a test event" }).click();
    await page.locator("#deliveries").getByText("Pending").first().waitFor();
    await page.locator("#deliveries").getByText("500").first().waitFor();
    await page.locator("#deliveries tbody a").first().click();
    await page.getByText("unsuccessful_status").first().waitFor();
    await picture(page, "delivery-failing");
    status = 204;
    await page.getByRole("button", { name: "Redeliver" }).click();
    await page.getByText("Acknowledged").waitFor();
    await picture(page, "delivery");

    await page.getByRole("link", { name: host }).click();
    await page.getByRole("link", { name: "Rotate the secret" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Rotate the secret" }).click();
    const rotated = await dialog.getByLabel("Secret", { exact: true }).inputValue();
    await page.keyboard.press("Escape");
    await page.getByText("signed with two secrets").waitFor();
    const before = received.length;
    await page.getByRole("button", { name: "Send a test event" }).click();
    while (received.length === before) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(isSigned(received.at(-1), secret) && isSigned(received.at(-1), rotated), "both secrets sign");

    await page.getByRole("link", { name: "Delete" }).click();
    await dialog.getByLabel("Type the host").fill(host);
    await picture(page, "webhook-delete");
    await dialog.getByRole("button", { name: "Delete the webhook" }).click();
    await page.getByText(`The webhook to ${host} is deleted`).waitFor();
  },

  async "a receiver that is gone disables its webhook, which is enabled again"() {
    const page = await signIn();
    await page.goto(`${project}/webhooks/new`);
    await page.getByLabel("URL", { exact: true }).fill(`http://${host}/gone`);
    await page.getByRole("button", { name: "Create the webhook" }).click();
    await page.getByRole("link", { name: "I have stored the secret" }).click();
    // The event of its creation comes first.
    await page.locator("#deliveries").getByText("Delivered").first().waitFor();
    status = 410;
    await page.getByRole("button", { name: "Send a test event" }).click();
    await page.locator("#deliveries").getByText("410").waitFor();
    await page.reload();
    await page.getByText("The receiver answered 410 Gone").waitFor();
    await picture(page, "webhook-gone");
    status = 204;
    await page.getByRole("button", { name: "Enable" }).click();
    await page.getByText("The webhook is enabled").waitFor();
    await page.locator("#deliveries").getByText("Delivered").first().waitFor();
  },
});
receiver.close();
receiver.closeAllConnections();
