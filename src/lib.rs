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
//! - [`docs`]: HTML pages and the OpenAPI document.
//! - [`server`]: settings, route table, application state, table of workers and their supervision, connections,
//!   and shutdown.
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
pub mod db;
pub mod docs;
pub mod http;
pub mod metrics;
pub mod resources;
pub mod server;
pub mod tx;
