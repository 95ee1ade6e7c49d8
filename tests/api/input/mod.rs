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

use cloudapi::{base::identity::secret::SecretKind, http::describe::Operation};
use serde_json::Value;

use crate::support::{
    Identity, Key, Reply, Session,
    document::{self, absent_path as path_of},
};

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
