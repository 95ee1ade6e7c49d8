// Live events in a real browser: they arrive without a reload, wait while paused, and none is missed by a reconnect.

import assert from "node:assert/strict";
import { createServer, connect } from "node:net";
import { api, demo, link, picture, project, run, signIn, url, visitor } from "./support.mjs";

const createKey = (name) => api("POST", "/v1/keys", { project_id: demo, name, scopes: ["users:read"] });
const row = (page, name) => page.locator("#events").getByRole("link", { name, exact: true });

await run({
  async "events arrive live, and wait while paused"() {
    const page = await signIn();
    const loads = [];
    page.on("request", (request) => request.isNavigationRequest() && loads.push(request.url()));
    await page.goto(`${project}/events`);
    await page.getByText("Live", { exact: true }).waitFor();
    loads.length = 0;

    await createKey("live one");
    await row(page, "live one").waitFor();
    await picture(page, "events");

    await page.getByRole("button", { name: "Pause" }).click();
    await createKey("while paused");
    await page.getByText("Paused, 1 new").waitFor();
    assert.equal(await row(page, "while paused").count(), 0, "a paused list does not move");
    await page.getByRole("button", { name: "Resume" }).click();
    await row(page, "while paused").waitFor();
    assert.deepEqual(loads, [], "the page was never loaded again");
  },

  async "a broken connection loses no event"() {
    const { port } = new URL(url);
    const sockets = new Set();
    let isCut = false;
    const proxy = createServer((client) => {
      if (isCut) return client.destroy();
      const server = connect(port, "127.0.0.1");
      for (const socket of [client, server]) sockets.add(socket.on("error", () => {}).on("close", () => sockets.delete(socket)));
      client.pipe(server).pipe(client);
    });
    await new Promise((ready) => proxy.listen(0, "127.0.0.1", ready));
    const near = `http://127.0.0.1:${proxy.address().port}`;
    try {
      const page = await visitor();
      await page.goto(link().replace(url, near));
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.goto(project.replace(url, near) + "/events");
      await page.getByText("Live", { exact: true }).waitFor();
      isCut = true;
      for (const socket of sockets) socket.destroy();
      await page.getByText("Reconnecting…").waitFor();
      await createKey("while cut off");
      isCut = false;
      await row(page, "while cut off").waitFor();
      await page.getByText("Live", { exact: true }).waitFor();
    } finally {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    }
  },

  async "the overview follows events, and the end of the session is said"() {
    const page = await signIn();
    await page.goto(project);
    await page.locator("#latest").waitFor();
    await createKey("on the overview");
    await page.locator("#latest").getByText("on the overview").waitFor();

    await page.goto(`${project}/events`);
    await page.getByText("Live", { exact: true }).waitFor();
    const second = await page.context().newPage();
    await second.goto(`${url}/console/sign-out`);
    await second.getByRole("button", { name: "Sign out here" }).click();
    await second.getByText("You are signed out.").waitFor();
    await page.getByText("Your session has ended").waitFor();
    await page.getByRole("link", { name: "Sign in again" }).click();
    await page.waitForURL(/\/console\/sign-in\?return=/);
  },

  async "one event is shown as JSON"() {
    const page = await signIn();
    await createKey("as JSON");
    await page.goto(`${project}/events?type=key.created`);
    await page.locator("#events tbody th a").first().click();
    await page.getByRole("heading", { name: "A key was created" }).waitFor();
    assert.equal(JSON.parse(await page.locator("#event-json").textContent()).type, "key.created");
    await picture(page, "event");
  },
});
