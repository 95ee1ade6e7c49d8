// What the flows share: the browser, signing in with a link, calls of the API, and a watch for errors of pages.
// A file flows-*.mjs ends with `await run({ async "what works"() { … } })`.

import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

const { CONSOLE_CHROMIUM: program, CONSOLE_COMMAND: command, CONSOLE_PICTURES: pictures } = process.env;

export const url = process.env.CONSOLE_URL;
export const demo = "proj_8f2c4";
export const project = `${url}/console/projects/${demo}`;
export const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });

const errors = [];

// Prints a link for a user, as an operator does. The owner of the demo project is the default.
export const link = (email = "ada@example.com") =>
  execFileSync(command, ["admin", "console-link", "--email", email], { encoding: "utf8" }).match(/http\S+/)[0];

// Errors of scripts, and what the Content-Security-Policy refuses, fail the flow.
function watch(page) {
  page.on("pageerror", (error) => errors.push(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    // Answers with a status of 400 and above are opened on purpose.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) errors.push(`${page.url()}: ${message.text()}`);
  });
}

// A page of a new context: another browser, with no cookies of the others.
export async function visitor(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  context.on("page", watch);
  return context.newPage();
}

export async function signIn({ email, ...options } = {}) {
  const page = await visitor(options);
  await page.goto(link(email));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(/\/console\/projects/);
  return page;
}

export const picture = (page, name) => pictures && page.screenshot({ path: `${pictures}/flow-${name}.png` });

// The status of a call of the API with a secret.
export const call = (path, secret) => fetch(url + path, { headers: { authorization: `Bearer ${secret}` } }).then(({ status }) => status);

const session = execFileSync(command, ["admin", "session", "--email", "ada@example.com"], { encoding: "utf8" }).trim();

// What the API answers to a call of the demo project's owner.
export async function api(method, path, body) {
  const headers = { authorization: `Bearer ${session}`, "content-type": "application/json" };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

// Runs the flows one after the other, each in contexts of its own.
export async function run(flows) {
  try {
    for (const [name, flow] of Object.entries(flows)) {
      await flow().catch((error) => {
        throw new Error(`${name}: ${error.stack}`);
      });
      for (const context of browser.contexts()) await context.close();
      if (errors.length > 0) throw new Error(`${name}: errors of pages: ${errors.join("; ")}`);
    }
    console.log(`${Object.keys(flows).length} flows of the console work in a browser`);
  } finally {
    await browser.close();
  }
}
