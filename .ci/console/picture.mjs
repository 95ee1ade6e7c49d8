// One day of the server whose picture is in README: requests of programs and, on the last day, what people do. Then the
// picture of the overview.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const { CONSOLE_URL: url, CONSOLE_LINK: link, CONSOLE_SESSION: session, CONSOLE_STATE: file, CONSOLE_PICTURE: picture } = process.env;
const [day, first, last] = process.argv.slice(2).map(Number);
const project = "proj_8f2c4";

async function call(secret, method, path, body) {
  const answer = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

const inDays = (days) => `${new Date(Date.UTC(new Date().getUTCFullYear(), 10, last + days)).toISOString().slice(0, 10)}T00:00:00Z`;

if (day === first) {
  const keys = [];
  for (const [name, days] of [["billing service", 340], ["deploy pipeline", 9], ["dashboard", 80]]) {
    const scopes = ["projects:read", "users:read", "usage:read", "keys:read", "events:read"];
    keys.push(await call(session, "POST", "/v1/keys", { project_id: project, name, scopes, expires_at: inDays(days) }));
  }
  writeFileSync(file, JSON.stringify(keys.map((made) => made.key)));
}

// Programs: more on weekdays than on weekends.
const keys = JSON.parse(readFileSync(file, "utf8"));
const weekday = new Date(Date.UTC(new Date().getUTCFullYear(), 10, day)).getUTCDay();
const requests = Math.round((weekday % 6 === 0 ? 300 : 900) * (0.75 + ((day * 37) % 50) / 100));
for (let number = 0; number < requests; number += 1) {
  const path = ["/v1/users?limit=5", `/v1/projects/${project}`, "/v1/usage", "/v1/keys?limit=5"][number % 4];
  await call(keys[number % 7 < 4 ? 0 : number % 3], "GET", path);
}

if (day === last) {
  await call(session, "POST", "/v1/users", { project_id: project, email: "lin@example.com", role: "admin" });
  await call(session, "POST", "/v1/keys", { project_id: project, name: "status page", scopes: ["usage:read"] });
  await call(session, "POST", "/v1/resources", { project_id: project, kind: "storage.volume", name: "orders", spec: { size_gib: 20 } });
  const browser = await chromium.launch({ executablePath: process.env.CONSOLE_CHROMIUM, args: ["--no-sandbox"] });
  try {
    const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light" })).newPage();
    await page.goto(link);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(/\/console\/projects\//);
    // The counts of the last second are written.
    await page.waitForTimeout(1500);
    await page.reload();
    await page.screenshot({ path: picture });
  } finally {
    await browser.close();
  }
}
