//! Validation of input, generated from the route table and the OpenAPI document, so that new routes, parameters and
//! fields are included automatically.

mod emails;
mod filters;
mod forms;
mod lists;
mod networks;
mod patches;
mod properties;
mod texts;

use cloudapi::{
    base::{
        identity::secret::SecretKind,
        input::limit::{LimitSettings, RateLimit},
    },
    http::describe::Operation,
    server::state::AppOptions,
};
use serde_json::Value;

use crate::support::{Identity, Key, Reply, Session, TestApp, cloud, document};

/// A server with very high limits for failures and sign-ins.
async fn patient_app() -> TestApp {
    let limits = LimitSettings {
        failures: RateLimit::new(1_000_000, 1),
        sign_ins: RateLimit::new(1_000_000, 1),
        ..LimitSettings::default()
    };
    TestApp::start_with(AppOptions { limits, cloud: cloud::fast_provider(), ..AppOptions::default() }).await
}

/// The fields of an operation's JSON body.
fn members(operation: &Operation) -> Option<&'static serde_json::Map<String, Value>> {
    document::body_schema(operation)?.get("properties")?.as_object()
}

/// The query parameters of an operation, each with its schema.
fn parameters(operation: &Operation) -> impl Iterator<Item = (&'static str, &'static Value)> {
    document::parameters(document::described(operation))
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| (parameter["name"].as_str().unwrap(), document::resolve(&parameter["schema"])))
}

/// The operation's path with IDs that do not exist.
fn path_of(operation: &Operation) -> String {
    let parts = operation.path.split('/').map(|part| match part {
        "{project_id}" => "proj_1",
        "{key_id}" => "key_1",
        "{token_id}" => "tok_1",
        "{user_id}" => "usr_1",
        "{session_id}" => "sess_1",
        "{webhook_id}" => "wh_1",
        "{delivery_id}" => "dlv_1",
        "{resource_id}" => "res_1",
        "{operation_id}" => "op_1",
        "{name}" => "sim",
        "{kind}" => "storage.volume",
        other => other,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Sends a request with a session if the route accepts sessions, else with a key.
async fn send(owner: &Session<'_>, key: &Key<'_>, operation: &Operation, path: &str, body: Option<&Value>) -> Reply {
    let method = operation.method.as_str();
    let kinds = operation.policy.kinds();
    let by_session = kinds.is_empty() || kinds.contains(&SecretKind::Session);
    let request = if by_session { owner.request(method, path) } else { key.request(method, path) };
    match body {
        Some(body) => request.json(body).send().await,
        None => request.send().await,
    }
}

/// All operations except the one that revokes the caller's session.
fn operations(table: &cloudapi::http::api::Api<cloudapi::server::state::App>) -> impl Iterator<Item = &Operation> {
    table.operations().filter(|operation| operation.path != "/v1/sessions/current")
}
