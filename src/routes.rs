//! THE table: every route, who handles it, and what it does in one line.

use std::sync::LazyLock;

use axum::Router;
use serde_json::Value;

use crate::{
    auth::{bearer::Authenticator, gate::GateLayer, grant::Public},
    base::error::{Code, Result},
    health,
    http::{api::Api, reply::Json},
    keys::handlers as keys,
    openapi::{self, Document},
    projects::handlers as projects,
    sessions::handlers as sessions,
    state::App,
    tokens::handlers as tokens,
    usage::handlers as usage,
    users::handlers as users,
};

/// The routes.
pub fn table() -> Api<App> {
    Api::new()
        .post("/v1/sessions", sessions::create, "Sign in: exchange an e-mail address and a password for a session.")
        .errors(&[Code::InvalidCredentials])
        .get("/v1/sessions", sessions::list, "List your live sessions.")
        .delete("/v1/sessions/current", sessions::revoke_current, "Sign out: end the session that asks.")
        .delete("/v1/sessions/{session_id}", sessions::revoke, "End one of your sessions.")
        .get("/v1/projects", projects::list, "List the projects your credential can see.")
        .post("/v1/projects", projects::create, "Create a project, which you then own.")
        .get("/v1/projects/{project_id}", projects::get, "Get a project.")
        .patch("/v1/projects/{project_id}", projects::update, "Change a project's name or metadata.")
        .post("/v1/keys", keys::create, "Create an API key for a project; its secret is shown this once.")
        .errors(&[Code::ScopeEscalation])
        .get("/v1/keys", keys::list, "List a project's keys.")
        .get("/v1/keys/{key_id}", keys::get, "Get a key.")
        .delete(
            "/v1/keys/{key_id}",
            keys::revoke,
            "Revoke a key and every token issued under it, at once and for good.",
        )
        .post("/v1/tokens", tokens::create, "Create a scoped token for a service; its secret is shown this once.")
        .errors(&[Code::ScopeEscalation, Code::LimitReached])
        .get("/v1/tokens", tokens::list, "List a project's tokens.")
        .get("/v1/tokens/{token_id}", tokens::get, "Get a token.")
        .delete("/v1/tokens/{token_id}", tokens::revoke, "Revoke a token and every token issued under it.")
        .get("/v1/users", users::list, "List the users visible to a project.")
        .get("/v1/users/{user_id}", users::get, "Get a user.")
        .get("/v1/usage", usage::get, "Get the current billing period's usage.")
        .get("/healthz", health::live, "Tell whether the server lives.")
        .get("/readyz", health::ready, "Tell whether requests should be sent to this server.")
        .get("/openapi.json", describe, "Get this description of the API.")
}

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| openapi::describe(table().operations()));

/// The API's description (OpenAPI 3.1).
pub fn description() -> &'static Value {
    &DESCRIPTION
}

/// `GET /openapi.json`.
async fn describe(_: Public) -> Result<Json<Document>> {
    Ok(Json(Document(description())))
}

/// The table as a router, a gate in front of each handler.
pub fn router(app: App) -> Router {
    let authenticator = Authenticator::new(app.db.clone(), app.clock.clone());
    table()
        .into_router(|operation, route| route.layer(GateLayer::new(operation, authenticator.clone())))
        .with_state(app)
}
