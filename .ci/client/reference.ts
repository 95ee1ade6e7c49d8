// The published reference, called by a client that is generated from the description: what compiles
// here is what the description promises, what then runs is what the server does.

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

/** The answer's body, which must have come with this status. */
async function body<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
  status: number,
): Promise<T> {
  const { data, error, response } = await call;
  expect(response.status === status && data !== undefined, `${response.url} answered ${response.status}`, error);
  expect(response.headers.get("x-request-id")?.startsWith("req_") === true, "no request id");
  return data;
}

function clientOf(secret: string) {
  const baseUrl = process.env["JUDGES_URL"];
  expect(baseUrl !== undefined, "JUDGES_URL is not set");
  return createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${secret}` } });
}

const sessionSecret = process.env["JUDGES_SESSION"];
expect(sessionSecret !== undefined, "JUDGES_SESSION is not set");
const dashboard = clientOf(sessionSecret);

// Keys are made by a dashboard's session.
const made = await dashboard.POST("/v1/keys", { body: { project_id: PROJECT } });
expect(made.response.status === 201 && made.data !== undefined, "no key", made.error);
expect(/^sk_live_[0-9A-Za-z]{49}$/.test(made.data.key), "not a key's secret");
equal(made.response.headers.get("location"), `/v1/keys/${made.data.id}`, "Location");
equal(made.response.headers.get("cache-control"), "no-store", "Cache-Control");
equal([made.data.project_id, made.data.status, made.data.expires_at], [PROJECT, "active", null], "the key");
// @ts-expect-error A key is of a project.
void (() => dashboard.POST("/v1/keys", { body: { name: "nobody's" } }));
// @ts-expect-error A time is a text.
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
expect(admin?.email.includes("@") === true, "an e-mail address", admin);

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

/** What a person is told, chosen by the code alone. Codes may be added, so that any text compiles. */
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
expect(refused.response.status === 422 && refused.error !== undefined, "a mistyped scope is refused", refused.data);
equal(told(refused.error), "#/scopes/0: unknown_scope", "what a person is told");

const beyond = await clientOf(token.token).GET("/v1/keys");
expect(beyond.response.status === 403 && beyond.error !== undefined, "beyond the token's scopes", beyond.data);
equal(told(beyond.error), "ask for another key", "what a person is told");

console.log("the generated client ran the published reference");
