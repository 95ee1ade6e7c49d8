//! CloudAPI: one API for a company's projects, credentials, users, usage and cloud resources.
//!
//! One binary, one PostgreSQL. A request passes through these layers, the outermost first:
//!
//! ```text
//! server::connections ─ RecordLayer ─ HeadersLayer ─ CorsService ─ GuardLayer ─ router (server::routes)
//!   ─ GateLayer (secret → Caller) ─ extractors ─ api::<slice>::handlers ─ api::<slice>::repo ─ PostgreSQL
//!
//! writes: handler → tx { claim · effect · staged entry · stored response } → one COMMIT
//! staged entries ─ audit::sealing (ten times a second, one server at a time) → chains, webhook deliveries
//! deliveries ─ api::webhooks::delivery::worker (every server takes a share) → receivers
//! operations ─ resources::engine (every server takes a share) → resources::drivers → providers
//! all background tasks ─ rows of server::workers::TABLE, restarted by server::supervision
//! ```
//!
//! - Record ([`api::usage::counting::record`]): assigns the request ID, counts the request, writes its log line, and
//!   renders errors as problems.
//! - Headers ([`http::layers::headers`]): adds the security headers to every response.
//! - CORS ([`http::layers::cors`]): answers preflight requests, and admits scripts of allowed origins.
//! - Guard ([`http::layers::edge`]): limits the size of the head, the number of concurrent requests, and their time.
//! - Router ([`server::routes`]): finds the route in one table. Unknown paths and methods are rejected here.
//! - Gate ([`auth::gate`]): authenticates the caller, and checks scopes, rate limits and quotas, before the body is
//!   read.
//! - Extractors ([`http::request::extract`], [`auth::grant`]): parse path, query and body, and pass the caller's grant.
//! - Handler (`handlers` of a slice): admits the caller to a project, then reads, or executes a write through [`tx`].
//! - Transaction ([`tx`]): recognizes a repeated write, commits the effect with its audit entry and stored response,
//!   and waits until every server has applied an invalidation.
//!
//! The content of a request is parsed once, and a response is serialized once. Every other step has its own reason:
//!
//! | step | of what | why |
//! |---|---|---|
//! | [`http::request::query`] | query string | decodes each parameter once; the text for the fingerprint below is made of the decoded parameters |
//! | [`http::request::json`] | body | the only parser: finds duplicate members, excessive nesting and control characters while it builds the value |
//! | `JsonBody::project_id` | one member | the project is looked up before the rest is checked, so that errors reveal nothing to strangers |
//! | `IdempotentRequest::fingerprint` | value | with an `Idempotency-Key`: the canonical text is hashed before the check, because a retry gets its first response even if the body would now be invalid |
//! | `Rules::faults` | value | the published schema is the validation, and reports every fault |
//! | `JsonBody::validate` | value | moved into the type of the request; a resource's `spec`, whose type depends on the kind, is moved on from there |
//! | [`http::response`] | view | the body. The stored response of a write is the same bytes |
//! | `EntityTag::of` | view | the tag is a hash without the members that change by themselves, in an order that is not the body's |
//! | `audit::model::members` | view | writes only: the entry has the members, or their differences |
//!
//! A body is parsed a second time only if its write failed because of its connection and is executed again.
//!
//! Modules, from the lowest to the highest. None imports one below it in this list; a test enforces that there are no
//! cycles, neither here nor between slices.
//!
//! - [`base`]: shared types.
//! - [`metrics`]: types of metrics.
//! - [`db`]: connections, migrations, and classification of errors.
//! - [`http`]: shared HTTP code.
//! - [`auth`]: authentication and authorization.
//! - [`audit`]: the audit trail.
//! - [`tx`]: the transaction of every write.
//! - [`resources`]: cloud resources, with handlers, engine and drivers.
//! - [`api`]: the slices. Each is a folder with the same files: `model` (types, request and response shapes), `repo`
//!   (SQL, as free functions on a connection) and `handlers`.
//! - [`console`]: the web console, a client of `/v1` in the same process.
//! - [`server`]: settings, route table, application state, table of workers and their supervision, connections,
//!   shutdown, and the pages under `/docs` with the OpenAPI document.
//! - [`cli`]: the commands.
//!
//! Handlers do not know the application ([`server::state::App`]). They take parts of it, such as [`tx::Store`], with
//! axum's `State`.

// Futures of handlers, layers and database calls are nested. An optimized build computes the layout of all of them at
// once, which exceeds the default limit of 128.
#![recursion_limit = "256"]

pub mod api;
pub mod audit;
pub mod auth;
pub mod base;
pub mod cli;
pub mod console;
pub mod db;
pub mod http;
pub mod metrics;
pub mod resources;
pub mod server;
pub mod tx;
