//! Lost response to COMMIT: the outcome of the write is unknown, and the error says so.

use cloudapi::{
    base::{error::Code, identity::role::Role},
    http::describe::Operation,
    server::{routes, state::AppOptions},
};
use serde_json::{Value, json};

use super::admin;
use crate::{
    routes::access::{CallerKind, Fixture},
    support::{
        Identity, Reply, TestApp,
        cloud::{self, insert_network, network_in},
        document, eventually,
        hooks::{create_idle_webhook, insert_delivery},
    },
};

/// Makes each COMMIT of an audited write terminate its own connection, so that PostgreSQL does not return the outcome.
/// (The transaction is rolled back, but a client of PostgreSQL cannot know that.)
const LOSE_COMMITS: &str = "
    CREATE FUNCTION lose_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(60);
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER lose_commit AFTER INSERT ON audit_staged DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION lose_commit();";

/// Path and body with which a write reaches its COMMIT, where [`Fixture::path`] and an empty body are not sufficient.
async fn request(app: &TestApp, fixture: &Fixture<'_>, operation: &Operation) -> (String, Option<Value>) {
    let owner = &fixture.owner;
    let project = &owner.project;
    let path = fixture.path(operation, CallerKind::Session(Role::Owner)).await;
    let body = match operation.name().as_str() {
        "POST /v1/sessions" => {
            let user = app.user().await;
            app.set_password(&user, "a long enough password").await;
            json!({ "email": user.email, "password": "a long enough password" })
        }
        "POST /v1/sessions/current/reauthenticate" => {
            app.set_password(owner, "a long enough password").await;
            json!({ "password": "a long enough password" })
        }
        "POST /v1/users/me/password" => {
            app.set_password(owner, "a long enough password").await;
            json!({ "current_password": "a long enough password", "new_password": "another long password" })
        }
        "POST /v1/invitations/accept" => {
            let invited = json!({ "project_id": project, "email": "new@example.com", "role": "viewer" });
            let invitation = owner.post("/v1/users", invited).await.created();
            json!({ "token": invitation["invitation"], "password": "a long enough password" })
        }
        "DELETE /v1/sessions/{session_id}" => {
            return (format!("/v1/sessions/{}", app.another_session(owner).await.id), None);
        }
        "POST /v1/projects" => json!({ "name": "a project" }),
        "POST /v1/keys" => json!({ "project_id": project }),
        "POST /v1/tokens" => json!({ "project_id": project, "name": "t", "scopes": ["users:read"] }),
        "POST /v1/users" => json!({ "project_id": project, "email": "ada@example.com", "role": "viewer" }),
        "POST /v1/resources" => network_in(project),
        "POST /v1/resources/import" => {
            sqlx::query(
                "INSERT INTO sim_objects (provider, reference, kind, name, spec, ready_at)
                 VALUES ('sim', 'found', 'network.network', 'found', '{\"cidr\":\"10.0.0.0/16\"}', now())
                 ON CONFLICT DO NOTHING",
            )
            .execute(&app.db)
            .await
            .unwrap();
            json!({ "project_id": project, "kind": "network.network", "provider": "sim", "provider_ref": "found", "name": "found" })
        }
        "POST /v1/resources/{resource_id}/actions" => {
            let instance = json!({ "network": insert_network(owner).await, "size": "small", "image": "debian-12" });
            let body = json!({ "project_id": project, "kind": "compute.instance", "name": "i", "spec": instance });
            let made = owner.post("/v1/resources", body).await;
            let made = cloud::wait_until_succeeded(owner, made.json()).await;
            let path = format!("/v1/resources/{}/actions", cloud::id_of(&made));
            return (path, Some(json!({ "action": "stop" })));
        }
        "POST /v1/webhooks" => {
            json!({ "project_id": project, "url": "https://receiver.invalid/", "event_types": ["project.archived"] })
        }
        "PATCH /v1/users/{user_id}" => json!({ "role": "viewer" }),
        "PATCH /v1/webhooks/{webhook_id}" => json!({ "description": "changed" }),
        name if name.starts_with("PATCH ") => json!({ "name": "changed" }),
        "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver" => {
            let webhook = create_idle_webhook(owner).await;
            let delivery = insert_delivery(owner, &webhook).await;
            return (format!("/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver"), None);
        }
        "POST /v1/projects/{project_id}/resume" => {
            owner.post_empty(&format!("/v1/projects/{project}/suspend")).await.ok();
            return (path, None);
        }
        "DELETE /v1/projects/{project_id}" => {
            let other = owner.post("/v1/projects", json!({ "name": "to be deleted" })).await.created();
            let path = format!("/v1/projects/{}", other["id"].as_str().unwrap());
            owner.post_empty(&format!("{path}/archive")).await.ok();
            return (path, None);
        }
        _ if operation.body.is_some() => json!({}),
        _ => return (path, None),
    };
    (path, Some(body))
}

async fn send(
    fixture: &Fixture<'_>,
    operation: &Operation,
    (path, body): &(String, Option<Value>),
    key: Option<&str>,
) -> Reply {
    let mut request = fixture.owner.request(operation.method.as_str(), path);
    if let Some(body) = body {
        request = request.json(body);
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_with_a_lost_commit_response_returns_outcome_unknown() {
    let app = TestApp::start_with(AppOptions { cloud: cloud::fast_provider(), ..AppOptions::default() }).await;
    let db = admin(&app).await;
    sqlx::raw_sql(LOSE_COMMITS).execute(&db).await.unwrap();
    let enabled = async |enabled: bool| {
        let what = if enabled { "ENABLE" } else { "DISABLE" };
        let sql = format!("ALTER TABLE audit_staged {what} TRIGGER lose_commit");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&db).await.unwrap();
    };
    let mut wrong = Vec::new();
    for operation in routes::table().operations().filter(|operation| !operation.is_read()) {
        enabled(false).await;
        let fixture = Fixture::new(&app).await;
        let request = request(&app, &fixture, operation).await;
        let narrows = operation.errors.contains(&Code::RevocationUnconfirmed);
        let keys = if operation.response.is_idempotent() { vec![None, Some("a-key-of-its-own")] } else { vec![None] };
        enabled(true).await;
        for key in keys {
            let reply = send(&fixture, operation, &request, key).await;
            let (code, detail) =
                (reply["code"].as_str().unwrap_or_default(), reply["detail"].as_str().unwrap_or_default());
            let fits = match code {
                "revocation_unconfirmed" => narrows,
                "outcome_unknown" if key.is_some() => detail.contains("same Idempotency-Key"),
                "outcome_unknown" => detail.contains("check before you send it again"),
                _ => false,
            };
            if !fits || reply.status != 503 || reply.header("retry-after").is_none() {
                wrong.push(format!("{} with key {key:?}: {} {code}: {detail}", operation.name(), reply.status));
            }
        }
        // After the database recovers, a retry with the same key succeeds.
        enabled(false).await;
        if operation.response.is_idempotent() {
            // The interrupted transaction holds its claim until PostgreSQL ends it.
            let reply = eventually("claim of the lost write released", async || {
                let reply = send(&fixture, operation, &request, Some("a-key-of-its-own")).await;
                (reply["code"] != "idempotency_in_progress").then_some(reply)
            })
            .await;
            if reply.status >= 300 {
                wrong.push(format!("{} again: {} {}", operation.name(), reply.status, reply["code"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_write_route_documents_outcome_unknown() {
    for operation in routes::table().operations().filter(|operation| !operation.is_read()) {
        let described = document::described(operation);
        assert!(document::has_code(described, "outcome_unknown"), "{}", operation.name());
        let examples =
            &document::resolve(&described["responses"]["503"])["content"]["application/problem+json"]["examples"];
        assert!(document::resolve(&examples["outcome_unknown"]).is_object(), "{}", operation.name());
    }
}
