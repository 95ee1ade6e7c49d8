//! THE table: every route, who handles it, and what it does in one line.

use std::sync::{Arc, LazyLock};

use axum::Router;
use serde_json::Value;

use crate::{
    audit::handlers as audit,
    auth::{gate::GateLayer, grant::Public},
    base::error::{Code, Result},
    docs::{entry, handlers as docs},
    events::handlers as events,
    health,
    http::{
        api::Api,
        asset::{FileRequest, Packed},
    },
    keys::handlers as keys,
    metrics::requests::Named,
    openapi::{self, OpenApiDocument},
    projects::handlers as projects,
    resources::{handlers as resources, operations, providers},
    sessions::handlers as sessions,
    state::App,
    tokens::{handlers as tokens, introspection},
    usage::handlers as usage,
    users::{acceptance as invitations, handlers as users},
    webhooks::handlers as webhooks,
};

/// The routes.
pub fn table() -> Api<App> {
    Api::new()
        .post("/v1/sessions", sessions::create, "Sign in: exchange an e-mail address and a password for a session.")
        .errors(&[Code::InvalidCredentials])
        .get("/v1/sessions", sessions::list, "List your live sessions.")
        .delete("/v1/sessions/current", sessions::revoke_current, "Sign out: end the session that asks.")
        .errors(&[Code::RevocationUnconfirmed])
        .delete("/v1/sessions/{session_id}", sessions::revoke, "End one of your sessions.")
        .errors(&[Code::RevocationUnconfirmed])
        .post("/v1/users/me/password", users::change_password, "Change your password, which ends your other sessions.")
        .errors(&[Code::RevocationUnconfirmed, Code::InvalidCurrentPassword])
        .post("/v1/invitations/accept", invitations::accept, "Accept an invitation: become a member, and sign in.")
        .errors(&[Code::InvalidCredentials, Code::NotFound, Code::InvalidState])
        .get("/v1/projects", projects::list, "List the projects your credential can see.")
        .post("/v1/projects", projects::create, "Create a project, which you then own.")
        .get("/v1/projects/{project_id}", projects::get, "Get a project.")
        .patch("/v1/projects/{project_id}", projects::update, "Change a project's name or metadata.")
        .errors(&[Code::ProjectNotActive])
        .delete("/v1/projects/{project_id}", projects::delete, "Delete an archived project with everything in it.")
        .errors(&[Code::RevocationUnconfirmed, Code::ProjectNotArchived, Code::ProjectNotEmpty])
        .post(
            "/v1/projects/{project_id}/suspend",
            projects::suspend,
            "Stop a project's keys and tokens at once, until it is resumed.",
        )
        .errors(&[Code::RevocationUnconfirmed, Code::InvalidState])
        .post("/v1/projects/{project_id}/resume", projects::resume, "Let a project's keys and tokens work again.")
        .errors(&[Code::RevocationUnconfirmed])
        .post(
            "/v1/projects/{project_id}/archive",
            projects::archive,
            "Put a project away: its keys and tokens stop, and it may be deleted.",
        )
        .errors(&[Code::RevocationUnconfirmed])
        .post("/v1/keys", keys::create, "Create an API key for a project; its secret is shown this once.")
        .errors(&[Code::ScopeEscalation, Code::ProjectNotActive])
        .get("/v1/keys", keys::list, "List a project's keys.")
        .get("/v1/keys/{key_id}", keys::get, "Get a key.")
        .patch("/v1/keys/{key_id}", keys::update, "Change a key's name, scopes, end or metadata.")
        .errors(&[Code::RevocationUnconfirmed, Code::ScopeEscalation, Code::ProjectNotActive, Code::KeyRevoked])
        .post(
            "/v1/keys/{key_id}/rotate",
            keys::rotate,
            "Give a key a new secret while the old one goes on working for a while.",
        )
        .errors(&[
            Code::RevocationUnconfirmed,
            Code::ScopeEscalation,
            Code::ProjectNotActive,
            Code::KeyRevoked,
            Code::RotationInProgress,
            Code::InvalidState,
        ])
        .delete(
            "/v1/keys/{key_id}",
            keys::revoke,
            "Revoke a key and every token issued under it, at once and for good.",
        )
        .errors(&[Code::RevocationUnconfirmed])
        .post("/v1/tokens", tokens::create, "Create a scoped token for a service; its secret is shown this once.")
        .errors(&[Code::ScopeEscalation, Code::LimitReached, Code::ProjectNotActive])
        .post(
            "/v1/tokens/introspect",
            introspection::introspect,
            "Ask what a key or a token of your project may do, if it is live (RFC 7662).",
        )
        .get("/v1/tokens", tokens::list, "List a project's tokens.")
        .get("/v1/tokens/{token_id}", tokens::get, "Get a token.")
        .delete("/v1/tokens/{token_id}", tokens::revoke, "Revoke a token and every token issued under it.")
        .errors(&[Code::RevocationUnconfirmed])
        .get("/v1/users", users::list, "List the users visible to a project.")
        .post("/v1/users", users::create, "Invite somebody to a project; the invitation's secret is shown this once.")
        .errors(&[Code::RoleEscalation, Code::ProjectNotActive, Code::AlreadyMember])
        .get("/v1/users/{user_id}", users::get, "Get a user.")
        .patch("/v1/users/{user_id}", users::update, "Change a user's role in a project.")
        .errors(&[Code::RevocationUnconfirmed, Code::RoleEscalation, Code::ProjectNotActive, Code::LastOwner])
        .delete("/v1/users/{user_id}", users::remove, "Remove a user from a project, or withdraw their invitation.")
        .errors(&[Code::RevocationUnconfirmed, Code::RoleEscalation, Code::LastOwner])
        .post("/v1/resources", resources::create, "Ask for a resource: a network, a volume or an instance.")
        .errors(&[
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::LimitReached,
            Code::ResourceInUse,
            Code::ResourceLocked,
            Code::InvalidState,
        ])
        .get("/v1/resources", resources::list, "List a project's resources.")
        .post("/v1/resources/import", resources::import, "Make a resource of what was made at a provider elsewhere.")
        .errors(&[
            Code::ImportNotAllowed,
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::LimitReached,
            Code::ResourceInUse,
        ])
        .get("/v1/resources/{resource_id}", resources::get, "Get a resource.")
        .patch("/v1/resources/{resource_id}", resources::update, "Ask that a resource be changed.")
        .errors(&[
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::ResourceInUse,
            Code::ResourceLocked,
            Code::InvalidState,
        ])
        .delete("/v1/resources/{resource_id}", resources::delete, "Ask that a resource be deleted.")
        .errors(&[Code::Protected, Code::ResourceInUse, Code::ResourceLocked, Code::InvalidState])
        .post(
            "/v1/resources/{resource_id}/actions",
            resources::act,
            "Ask that a resource be started, stopped, rebooted or resized, or a volume attached or detached.",
        )
        .errors(&[
            Code::ProjectNotActive,
            Code::UnsupportedCapability,
            Code::LimitReached,
            Code::ResourceInUse,
            Code::ResourceLocked,
            Code::InvalidState,
        ])
        .post(
            "/v1/resources/{resource_id}/sync",
            resources::sync,
            "Ask that a resource be looked at, and mended if it says so.",
        )
        .errors(&[Code::ProjectNotActive, Code::ResourceLocked, Code::InvalidState])
        .get("/v1/operations", operations::list, "List what was and is being done to a project's resources.")
        .get("/v1/operations/{operation_id}", operations::get, "Get an operation, or wait until it is over.")
        .post("/v1/operations/{operation_id}/cancel", operations::cancel, "Ask that an operation be given up.")
        .errors(&[Code::InvalidState])
        .get("/v1/providers", providers::list, "List where resources can be, and what can be done there.")
        .get("/v1/providers/{name}", providers::get, "Get a provider.")
        .get("/v1/schemas/{kind}", providers::schema, "Get the JSON Schema of a kind's spec.")
        .get("/v1/usage", usage::get, "Get a billing period's usage; the current one's if none is named.")
        .get("/v1/usage/breakdown", usage::breakdown, "Break usage down by key, token, route or day.")
        .get("/v1/usage/periods", usage::periods, "List the billing periods, open and final, with their usage.")
        .get("/v1/events", events::list, "List what has happened in a project, in order.")
        .errors(&[Code::CursorExpired])
        .get(
            "/v1/events/stream",
            events::stream,
            "Follow what happens in a project, as it happens (server-sent events).",
        )
        .errors(&[Code::LimitReached])
        .post(
            "/v1/webhooks",
            webhooks::create,
            "Have a project's events sent to a URL; the secret that signs them is shown this once.",
        )
        .errors(&[Code::UrlNotAllowed, Code::ProjectNotActive, Code::LimitReached])
        .get("/v1/webhooks", webhooks::list, "List a project's webhooks.")
        .get("/v1/webhooks/{webhook_id}", webhooks::get, "Get a webhook.")
        .patch("/v1/webhooks/{webhook_id}", webhooks::update, "Change a webhook, disable it, or enable it again.")
        .errors(&[Code::UrlNotAllowed, Code::ProjectNotActive])
        .delete("/v1/webhooks/{webhook_id}", webhooks::delete, "Delete a webhook with its deliveries.")
        .post(
            "/v1/webhooks/{webhook_id}/rotate-secret",
            webhooks::rotate_secret,
            "Give a webhook a new secret while the old one goes on signing beside it for a while.",
        )
        .errors(&[Code::ProjectNotActive, Code::RotationInProgress])
        .post("/v1/webhooks/{webhook_id}/test", webhooks::test, "Send an event to a webhook, to try it.")
        .errors(&[Code::WebhookDisabled])
        .get("/v1/webhooks/{webhook_id}/deliveries", webhooks::deliveries, "List what was sent to a webhook, and how.")
        .get(
            "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}",
            webhooks::delivery,
            "Get a delivery with its attempts.",
        )
        .post(
            "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
            webhooks::redeliver,
            "Send an event to a webhook once more.",
        )
        .errors(&[Code::WebhookDisabled])
        .get("/v1/audit-logs", audit::list, "List what was done in a project, when and by whom.")
        .get("/v1/audit-logs/export", audit::export, "Export a project's whole audit trail, to keep or to check.")
        .get("/v1/audit-logs/checkpoints", audit::checkpoints, "List the signed ends of a project's audit trail.")
        .get("/", entry::entry, "Show the entry points.")
        .get("/healthz", health::live, "Tell whether the server lives.")
        .get("/readyz", health::ready, "Tell whether requests should be sent to this server.")
        .get("/openapi.json", describe, "Get this description of the API.")
        .get("/docs", docs::reference, "Read this description in a browser, and send requests from it.")
        .get("/docs/errors", docs::errors, "List the errors there are.")
        .get("/docs/errors/{code}", docs::error, "Read what an error means, and what to do about it.")
        .get("/docs/assets/{file}", docs::asset, "Get a file that these pages are made of.")
}

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| openapi::describe(table().operations()));

/// The API's description (OpenAPI 3.1).
pub fn description() -> &'static Value {
    &DESCRIPTION
}

/// `GET /openapi.json`.
async fn describe(_: Public, request: FileRequest) -> Result<OpenApiDocument> {
    static PACKED: LazyLock<Packed> = LazyLock::new(|| openapi::packed(description()));
    Ok(OpenApiDocument { document: PACKED.clone(), request })
}

/// The table as a router, a gate in front of each handler.
pub fn router(app: App) -> Router {
    let table = table();
    app.requests.name_routes(table.operations().map(|operation| Named {
        method: operation.method.clone(),
        template: operation.path,
        status: operation.answer.status,
    }));
    app.meter.name_routes(table.operations().map(|operation| (operation.route(), operation.name())).collect());
    let gate = |operation| {
        let (limits, quota) = (Arc::clone(&app.limits), Arc::clone(&app.quota));
        GateLayer::new(operation, app.authenticator.clone(), limits, quota, app.edge.tracker.clone())
    };
    table.into_router(|operation, route| route.layer(gate(operation))).with_state(app.clone())
}
