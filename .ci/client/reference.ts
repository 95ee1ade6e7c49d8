// Runs the examples of the API reference with a client that is generated from the OpenAPI document. Compiling the client tests
// the document; running it tests the server.

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

type Problem = components["schemas"]["Problem"];

const PROJECT = "proj_8f2c4";

function expect(holds: boolean, what: string, shown?: unknown): asserts holds {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(shown)}`);
}

function equal(given: unknown, wanted: unknown, what: string) {
  expect(JSON.stringify(given) === JSON.stringify(wanted), `${what}, wanted ${JSON.stringify(wanted)}`, given);
}

/** Returns the body of the response, which must have this status. */
async function body<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
  status: number,
): Promise<T> {
  const { data, error, response } = await call;
  expect(response.status === status && data !== undefined, `${response.url} returned ${response.status}`, error);
  expect(response.headers.get("x-request-id")?.startsWith("req_") === true, "no request id");
  return data;
}

function clientOf(secret: string) {
  const baseUrl = process.env["VALIDATE_URL"];
  expect(baseUrl !== undefined, "VALIDATE_URL is not set");
  return createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${secret}` } });
}

const sessionSecret = process.env["VALIDATE_SESSION"];
expect(sessionSecret !== undefined, "VALIDATE_SESSION is not set");
const dashboard = clientOf(sessionSecret);

// A dashboard's session creates keys.
const made = await dashboard.POST("/v1/keys", { body: { project_id: PROJECT } });
expect(made.response.status === 201 && made.data !== undefined, "no key", made.error);
expect(/^sk_live_[0-9A-Za-z]{49}$/.test(made.data.key), "not a key's secret");
equal(made.response.headers.get("location"), `/v1/keys/${made.data.id}`, "Location");
equal(made.response.headers.get("cache-control"), "no-store", "Cache-Control");
equal([made.data.project_id, made.data.status, made.data.expires_at], [PROJECT, "active", null], "the key");
// @ts-expect-error A key belongs to a project.
void (() => dashboard.POST("/v1/keys", { body: { name: "nobody's" } }));
// @ts-expect-error A time is a string.
void (() => dashboard.POST("/v1/keys", { body: { project_id: PROJECT, expires_at: 4102444799 } }));

const server = clientOf(made.data.key);

const projects = await body(server.GET("/v1/projects"), 200);
equal(projects.data.map(({ id, name, status }) => ({ id, name, status })), [
  { id: PROJECT, name: "Core Platform", status: "active" },
], "the key's project");
expect(projects.request_id.startsWith("req_") && projects.next_cursor === undefined, "one page", projects);

const users = await body(server.GET("/v1/users", { params: { query: { limit: 25 } } }), 200);
const admin = users.data.find((user) => user.id === "usr_8f2");
equal(admin?.role satisfies string | undefined, "admin", "the role of usr_8f2");
expect(admin?.email.includes("@") === true, "an email address", admin);

const token = await body(
  server.POST("/v1/tokens", { body: { name: "ci-token", scopes: ["users:read", "usage:read"] } }),
  201,
);
expect(token.id.startsWith("tok_") && token.token.startsWith("cap_"), "a token");
equal([token.name, token.scopes], ["ci-token", ["users:read", "usage:read"]], "the token");

const usage = await body(clientOf(token.token).GET("/v1/usage"), 200);
expect(/^\d{4}-\d\d-01$/.test(usage.period_start) && /^\d{4}-\d\d-\d\d$/.test(usage.period_end), "a period", usage);
equal([typeof usage.requests, usage.overage, usage.included], ["number", 0, null], "the usage");

const revoked = await body(
  server.DELETE("/v1/keys/{key_id}", { params: { path: { key_id: "key_7d1" } } }),
  200,
);
equal(revoked, { id: "key_7d1", revoked: true }, "revoking key_7d1");

// All keys, two at a time.
for (const name of ["a", "b", "c"]) {
  await body(dashboard.POST("/v1/keys", { body: { project_id: PROJECT, name } }), 201);
}
const whole = await body(server.GET("/v1/keys", { params: { query: { limit: 100 } } }), 200);
expect(whole.data.length >= 6 && whole.next_cursor === undefined, "all keys in one page", whole);
const paged: string[] = [];
let cursor: string | undefined;
do {
  const query = cursor === undefined ? { limit: 2 } : { limit: 2, cursor };
  const page = await body(server.GET("/v1/keys", { params: { query } }), 200);
  expect(page.data.length <= 2 && paged.length < whole.data.length, "a page of two", page);
  paged.push(...page.data.map((key) => key.id));
  equal(page.next_cursor ?? null, paged.length < whole.data.length ? paged.at(-1) : null, "next_cursor");
  cursor = page.next_cursor;
} while (cursor !== undefined);
equal(paged, whole.data.map((key) => key.id), "the keys, page by page");

/** Returns a message for people, chosen by the code. New codes may be added, so `code` accepts any string. */
function told(problem: Problem): string {
  problem.code satisfies string;
  switch (problem.code) {
    case "validation_failed":
      return (problem.errors ?? []).map((item) => `${item.pointer}: ${item.code}`).join(", ");
    case "insufficient_scope":
      return "ask for another key";
    default:
      return problem.detail;
  }
}

const mistyped = "users:raed" as "users:read";
const refused = await server.POST("/v1/tokens", { body: { name: "ci-token", scopes: [mistyped] } });
expect(refused.response.status === 422 && refused.error !== undefined, "a mistyped scope is rejected", refused.data);
equal(told(refused.error), "#/scopes/0: unknown_scope", "message for people");

const beyond = await clientOf(token.token).GET("/v1/keys");
expect(beyond.response.status === 403 && beyond.error !== undefined, "a scope that the token does not have", beyond.data);
equal(told(beyond.error), "ask for another key", "message for people");

console.log("the generated client ran the examples of the reference");
