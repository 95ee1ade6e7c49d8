//! The route table: path, handler, summary and route-specific errors of each route, grouped by tags.

use std::sync::{Arc, LazyLock};

use axum::Router;
use serde_json::Value;

use crate::{
    api::{
        self,
        audit_logs::handlers as audit,
        events::handlers as events,
        keys::handlers as keys,
        overview::handlers as overview,
        projects::handlers as projects,
        sessions::{handlers as sessions, reauthentication, sign_in},
        tokens::{handlers as tokens, introspection},
        usage::handlers as usage,
        users::{acceptance as invitations, handlers as users, password, profile},
        webhooks::handlers as webhooks,
    },
    auth::{gate::GateLayer, grant::Public},
    base::error::{Code, Result},
    console::{self, Console, client::V1},
    http::{
        api::Api,
        response::asset::{AcceptedEncoding, CompressedText},
    },
    metrics::requests::RouteInfo,
    resources::{
        self,
        api::{handlers as resource_handlers, import, operations, providers},
    },
    server::{
        docs::{
            entry, handlers as docs,
            openapi::{self, OpenApiDocument},
            search::{self, SearchIndex},
        },
        health,
        state::App,
    },
};

/// Route table of the API.
pub fn table() -> Api<App> {
    Api::new()
        .tag("sessions", "Signing in and out, for dashboards.")
        .post("/v1/sessions", sign_in::create, "Create a session")
        .errors(&[Code::InvalidCredentials, Code::RevocationUnconfirmed])
        .get("/v1/sessions", sessions::list, "List your sessions")
        .delete("/v1/sessions/current", sessions::revoke_current, "Revoke the current session")
        .errors(&[Code::RevocationUnconfirmed])
        .delete("/v1/sessions/{session_id}", sessions::revoke, "Revoke a session")
        .errors(&[Code::RevocationUnconfirmed])
        .post(
            "/v1/sessions/current/reauthenticate",
            reauthentication::reauthenticate,
            "Reauthenticate the session's user",
        )
        .errors(&[Code::RevocationUnconfirmed, Code::InvalidCurrentPassword])
        .tag("users", "People, as members of projects.")
        .events(api::users::event_schemas::schema_of)
        .get("/v1/users/me", profile::me, "Get your profile")
        .post("/v1/users/me/password", password::change_password, "Change your password")
        .errors(&[Code::RevocationUnconfirmed, Code::InvalidCurrentPassword])
        .post("/v1/invitations/accept", invitations::accept, "Accept an invitation")
        .errors(&[Code::InvalidCredentials, Code::NotFound, Code::InvalidState])
        .get("/v1/users", users::list, "List users")
        .post("/v1/users", users::create, "Invite a user")
        .recent_authentication()
        .errors(&[Code::RoleEscalation, Code::ProjectNotActive, Code::AlreadyMember])
        .get("/v1/users/{user_id}", users::get, "Get a user")
        .patch("/v1/users/{user_id}", users::update, "Change a user's role")
        .recent_authentication()
        .errors(&[Code::RevocationUnconfirmed, Code::RoleEscalation, Code::ProjectNotActive, Code::LastOwner])
        .delete("/v1/users/{user_id}", users::remove, "Remove a user from a project")
        .errors(&[Code::RevocationUnconfirmed, Code::RoleEscalation, Code::LastOwner])
        .tag("projects", "Tenants, with keys, tokens and members.")
        .events(api::projects::event_schemas::schema_of)
        .get("/v1/projects", projects::list, "List projects")
        .post("/v1/projects", projects::create, "Create a project")
        .get("/v1/projects/{project_id}/overview", overview::overview, "Get a project's overview")
        .get("/v1/projects/{project_id}", projects::get, "Get a project")
        .patch("/v1/projects/{project_id}", projects::update, "Update a project")
        .errors(&[Code::ProjectNotActive])
        .delete("/v1/projects/{project_id}", projects::delete, "Delete a project")
        .errors(&[Code::RevocationUnconfirmed, Code::ProjectNotArchived, Code::ProjectNotEmpty])
        .post("/v1/projects/{project_id}/suspend", projects::suspend, "Suspend a project")
        .errors(&[Code::RevocationUnconfirmed, Code::InvalidState])
        .post("/v1/projects/{project_id}/resume", projects::resume, "Resume a project")
        .errors(&[Code::RevocationUnconfirmed])
        .post("/v1/projects/{project_id}/archive", projects::archive, "Archive a project")
        .errors(&[Code::RevocationUnconfirmed])
        .tag("keys", "Credentials of a project, for servers and CI.")
        .events(api::keys::event_schemas::schema_of)
        .post("/v1/keys", keys::create, "Create a key")
        .recent_authentication()
        .errors(&[Code::ScopeEscalation, Code::ProjectNotActive])
        .get("/v1/keys", keys::list, "List keys")
        .get("/v1/keys/{key_id}", keys::get, "Get a key")
        .patch("/v1/keys/{key_id}", keys::update, "Update a key")
        .errors(&[Code::RevocationUnconfirmed, Code::ScopeEscalation, Code::ProjectNotActive, Code::KeyRevoked])
        .post("/v1/keys/{key_id}/rotate", keys::rotate, "Rotate a key")
        .recent_authentication()
        .errors(&[
            Code::RevocationUnconfirmed,
            Code::ScopeEscalation,
            Code::ProjectNotActive,
            Code::KeyRevoked,
            Code::RotationInProgress,
            Code::InvalidState,
        ])
        .delete("/v1/keys/{key_id}", keys::revoke, "Revoke a key")
        .errors(&[Code::RevocationUnconfirmed])
        .tag("tokens", "Scoped, expiring credentials, for services.")
        .events(api::tokens::event_schemas::schema_of)
        .post("/v1/tokens", tokens::create, "Create a token")
        .recent_authentication()
        .errors(&[Code::ScopeEscalation, Code::LimitReached, Code::ProjectNotActive])
        .post("/v1/tokens/introspect", introspection::introspect, "Introspect a key or token")
        .get("/v1/tokens", tokens::list, "List tokens")
        .get("/v1/tokens/{token_id}", tokens::get, "Get a token")
        .delete("/v1/tokens/{token_id}", tokens::revoke, "Revoke a token")
        .errors(&[Code::RevocationUnconfirmed])
        .tag("resources", "Networks, volumes and instances at cloud providers, in one shape.")
        .events(resources::api::event_schemas::schema_of)
        .post("/v1/resources", resource_handlers::create, "Create a resource")
        .errors(&[
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::LimitReached,
            Code::ResourceInUse,
            Code::ResourceLocked,
            Code::InvalidState,
        ])
        .get("/v1/resources", resource_handlers::list, "List resources")
        .post("/v1/resources/import", import::import, "Import an existing object")
        .errors(&[
            Code::ImportNotAllowed,
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::LimitReached,
            Code::ResourceInUse,
        ])
        .get("/v1/resources/{resource_id}", resource_handlers::get, "Get a resource")
        .patch("/v1/resources/{resource_id}", resource_handlers::update, "Update a resource")
        .errors(&[
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::ResourceInUse,
            Code::ResourceLocked,
            Code::InvalidState,
        ])
        .delete("/v1/resources/{resource_id}", resource_handlers::delete, "Delete a resource")
        .errors(&[Code::Protected, Code::ResourceInUse, Code::ResourceLocked, Code::InvalidState])
        .post("/v1/resources/{resource_id}/actions", resource_handlers::act, "Run an action on a resource")
        .errors(&[
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::LimitReached,
            Code::ResourceInUse,
            Code::ResourceLocked,
            Code::InvalidState,
        ])
        .post("/v1/resources/{resource_id}/sync", resource_handlers::sync, "Sync a resource with its provider")
        .errors(&[Code::ProjectNotActive, Code::ResourceLocked, Code::InvalidState])
        .tag("operations", "Long-running changes of resources.")
        .get("/v1/operations", operations::list, "List operations")
        .get("/v1/operations/{operation_id}", operations::get, "Get an operation")
        .post("/v1/operations/{operation_id}/cancel", operations::cancel, "Cancel an operation")
        .errors(&[Code::InvalidState])
        .tag("providers", "Cloud providers, their capabilities, and the schemas of specs.")
        .get("/v1/providers", providers::list, "List providers")
        .get("/v1/providers/{name}", providers::get, "Get a provider")
        .get("/v1/schemas/{kind}", providers::schema, "Get the schema of a kind")
        .tag("usage", "Counted requests of a project.")
        .events(api::usage::event_schemas::schema_of)
        .get("/v1/usage", usage::get, "Get usage for a period")
        .get("/v1/usage/breakdown", usage::breakdown, "Get a usage breakdown")
        .get("/v1/usage/periods", usage::periods, "List billing periods")
        .tag("events", "Ordered events of a project, as a list or a stream.")
        .get("/v1/events", events::list, "List events")
        .errors(&[Code::CursorExpired])
        .get("/v1/events/stream", events::stream, "Stream events")
        .errors(&[Code::LimitReached])
        .tag("webhooks", "Signed deliveries of a project's events to your URLs.")
        .events(api::webhooks::event_schemas::schema_of)
        .post("/v1/webhooks", webhooks::create, "Create a webhook")
        .recent_authentication()
        .errors(&[Code::UrlNotAllowed, Code::ProjectNotActive, Code::LimitReached])
        .get("/v1/webhooks", webhooks::list, "List webhooks")
        .get("/v1/webhooks/{webhook_id}", webhooks::get, "Get a webhook")
        .patch("/v1/webhooks/{webhook_id}", webhooks::update, "Update a webhook")
        .errors(&[Code::UrlNotAllowed, Code::ProjectNotActive])
        .delete("/v1/webhooks/{webhook_id}", webhooks::delete, "Delete a webhook")
        .post("/v1/webhooks/{webhook_id}/rotate-secret", webhooks::rotate_secret, "Rotate a webhook secret")
        .recent_authentication()
        .errors(&[Code::ProjectNotActive, Code::RotationInProgress])
        .post("/v1/webhooks/{webhook_id}/test", webhooks::test, "Send a test event")
        .errors(&[Code::WebhookDisabled])
        .get("/v1/webhooks/{webhook_id}/deliveries", webhooks::deliveries, "List deliveries")
        .get("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}", webhooks::delivery, "Get a delivery")
        .post("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", webhooks::redeliver, "Redeliver an event")
        .errors(&[Code::WebhookDisabled])
        .tag("audit", "Tamper-evident record of who did what and when.")
        .events(api::audit_logs::event_schemas::schema_of)
        .get("/v1/audit-logs", audit::list, "List audit entries")
        .get("/v1/audit-logs/export", audit::export, "Export the audit trail")
        .get("/v1/audit-logs/checkpoints", audit::checkpoints, "List audit checkpoints")
        .get("/v1/audit-logs/{entry_id}", audit::get, "Get an audit entry")
        .tag("docs", "This document, the guides and the error codes.")
        .get("/", entry::entry, "List entry points")
        .get("/openapi.json", describe, "Get the OpenAPI document")
        .get("/docs", docs::reference, "Show the API reference")
        .get("/docs/guides", docs::guides, "List guides")
        .get("/docs/guides/{guide}", docs::guide, "Show a guide")
        .get("/docs/search.json", search, "Get the search index")
        .get("/docs/errors", docs::errors, "List error codes")
        .get("/docs/errors/{code}", docs::error, "Explain an error code")
        .get("/docs/assets/{file}", docs::asset, "Get a documentation asset")
        .tag("health", "Liveness and readiness probes.")
        .get("/healthz", health::live, "Liveness probe")
        .get("/readyz", health::ready, "Readiness probe")
}

/// Builds the OpenAPI 3.1 document of the API.
pub fn description() -> Value {
    openapi::describe(&table())
}

/// The texts that are made from the description, which is dropped then: it takes twenty times their memory.
static TEXTS: LazyLock<(CompressedText, CompressedText)> = LazyLock::new(|| {
    let description = description();
    (openapi::packed(&description), search::packed(&description))
});

/// `GET /openapi.json`.
async fn describe(_: Public, request: AcceptedEncoding) -> Result<OpenApiDocument> {
    Ok(OpenApiDocument { document: TEXTS.0.clone(), request })
}

/// `GET /docs/search.json`.
async fn search(_: Public, request: AcceptedEncoding) -> Result<SearchIndex> {
    Ok(SearchIndex { index: TEXTS.1.clone(), request })
}

/// Builds the console on `api`, with the routes of the console after those of the table in the metrics.
pub fn console(app: &App, api: V1) -> Console {
    let routes = table().operations().count();
    Console::new(api, app.store.clock.clone(), app.public_url.clone(), app.edge.https, routes)
}

/// Builds the router from the table. A gate runs before each handler.
pub fn router(app: App) -> Router {
    let table = table();
    let of_api = table.operations().map(|operation| RouteInfo {
        method: operation.method.clone(),
        template: operation.path,
        status: operation.response.status,
    });
    app.requests.set_routes(of_api.chain(console::routes()));
    app.meter.name_routes(table.operations().map(|operation| (operation.route(), operation.name())).collect());
    let gate = |operation| {
        let (limits, quota) = (Arc::clone(&app.limits), Arc::clone(&app.quota.exhausted));
        GateLayer::new(operation, app.authenticator.clone(), limits, quota, app.edge.tracker.clone())
    };
    table.into_router(|operation, route| route.layer(gate(operation))).with_state(app.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::action::{Action, Recorded};

    #[test]
    fn exactly_the_events_have_a_schema() {
        let table = table();
        for &action in Action::ALL {
            assert_eq!(
                table.event_schema(action).is_some(),
                action.recorded() == Recorded::Event,
                "{action}: describe it in `event_schemas.rs` of its slice if it is an `Event` in `base::names`, and pass \
                 `schema_of` to `events` in `table`"
            );
        }
    }
}
