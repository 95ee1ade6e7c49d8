//! Deletion of a project takes effect at once; what was in it is removed afterwards, in batches.

use cloudapi::{
    base::{id::ProjectId, identity::role::Role},
    db::purges::purge_batch,
    server::state::AppOptions,
};
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use crate::support::{
    Bearer, Identity, Session, TestApp,
    cloud::insert_network,
    cluster, eventually,
    hooks::{create_idle_webhook, insert_delivery},
};

/// Number of rows of `project` in each table that is not empty.
async fn rows_of(db: &mut PgConnection, project: &str) -> Vec<(String, i64)> {
    let project: ProjectId = project.parse().unwrap();
    sqlx::query_as(
        "SELECT name, count(*) FROM (
             SELECT 'members' AS name FROM members WHERE project_id = $1
             UNION ALL SELECT 'invitations' FROM invitations WHERE project_id = $1
             UNION ALL SELECT 'keys' FROM keys WHERE project_id = $1
             UNION ALL SELECT 'key_secrets' FROM key_secrets s JOIN keys k ON k.id = s.key_id WHERE k.project_id = $1
             UNION ALL SELECT 'tokens' FROM tokens WHERE project_id = $1
             UNION ALL SELECT 'webhooks' FROM webhooks WHERE project_id = $1
             UNION ALL SELECT 'webhook_deliveries' FROM webhook_deliveries WHERE project_id = $1
             UNION ALL SELECT 'resources' FROM resources WHERE project_id = $1
             UNION ALL SELECT 'operations' FROM operations WHERE project_id = $1
             UNION ALL SELECT 'resource_counts' FROM resource_counts WHERE project_id = $1
         ) AS rows GROUP BY name ORDER BY name",
    )
    .bind(project)
    .fetch_all(db)
    .await
    .unwrap()
}

/// Tables with a column `project_id` that the worker `purge` does not empty, each with its reason.
const NOT_PURGED: &[(&str, &str)] = &[
    ("audit_anchors", "the trail of a deleted project is kept"),
    ("audit_chains", "the trail of a deleted project is kept"),
    ("audit_checkpoints", "the trail of a deleted project is kept"),
    ("audit_entries", "the trail of a deleted project is kept"),
    ("audit_staged", "becomes the trail"),
    ("deletions", "removed after two days"),
    ("quota_notices", "removed after their month"),
    ("quota_states", "removed after their month"),
    ("resource_labels", "removed with their resource"),
    ("usage_adjustments", "usage is billed after the deletion"),
    ("usage_days", "usage is billed after the deletion"),
    ("usage_monthly", "usage is billed after the deletion"),
    ("usage_months", "usage is billed after the deletion"),
    ("usage_node", "usage is billed after the deletion"),
    ("usage_periods", "usage is billed after the deletion"),
    ("usage_totals", "usage is billed after the deletion"),
    ("webhooks", "deleted with the project"),
];

#[tokio::test]
async fn every_table_with_rows_of_projects_is_purged_or_has_a_reason() {
    let db = PgPool::connect_with(cluster::fresh_database().await).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT t.table_name::text FROM information_schema.tables t
         JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
         WHERE t.table_schema = current_schema() AND t.table_type = 'BASE TABLE' AND c.column_name = 'project_id'
         ORDER BY 1",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let source = "SELECT prosrc FROM pg_proc WHERE proname = 'purge_some'";
    let source: String = sqlx::query_scalar(source).fetch_one(&db).await.unwrap();
    let purged = |table: &str| source.contains(&format!("'{table}'"));
    let unpurged: Vec<&str> = tables.iter().map(String::as_str).filter(|table| !purged(table)).collect();
    let expected: Vec<&str> = NOT_PURGED.iter().map(|(table, _)| *table).collect();
    assert_eq!(unpurged, expected, "a migration adds each new table to `purge_some`, or it gets a reason here");
}

async fn archive_and_delete(owner: &Session<'_>) {
    let path = format!("/v1/projects/{}", owner.project);
    owner.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(owner.delete(&path).await.ok(), json!({ "id": owner.project, "deleted": true }));
}

#[tokio::test]
async fn deleted_project_is_dead_on_every_server_while_its_rows_are_still_there() {
    for auth_cache in [true, false] {
        let options = || AppOptions { auth_cache, ..AppOptions::default() };
        let here = TestApp::start_with(options()).await;
        let there = here.start_peer(options()).await;
        let owner = here.owner().await;
        let key = owner.key().await;
        let token = key.token(&["tokens:write", "users:read"]).await;
        let nested = token.token(&["users:read"]).await;
        let invitation = json!({ "project_id": owner.project, "email": "new@example.com", "role": "viewer" });
        let invited = owner.post("/v1/users", invitation).await.created();
        let webhook = create_idle_webhook(&owner).await;
        insert_delivery(&owner, &webhook).await;
        let network = insert_network(&owner).await;
        sqlx::query("UPDATE resources SET phase = 'deleted', deleted_at = now()").execute(&here.db).await.unwrap();
        let session = there.another_session(&owner).await;
        let users = format!("/v1/users?project_id={}", owner.project);
        let used =
            [&key.secret, &token.secret, &nested.secret].map(|secret| Bearer { app: &there, secret: secret.clone() });
        for bearer in &used {
            bearer.get("/v1/users").await.ok();
        }
        session.get(&users).await.ok();

        // A deletion that removed these rows would wait.
        let mut lock = here.db.begin().await.unwrap();
        for sql in
            ["SELECT FROM keys FOR KEY SHARE", "SELECT FROM tokens FOR KEY SHARE", "SELECT FROM members FOR KEY SHARE"]
        {
            sqlx::query(sql).execute(&mut *lock).await.unwrap();
        }
        archive_and_delete(&owner).await;
        for bearer in &used {
            bearer.get("/v1/users").await.problem(401, "invalid_token");
        }
        session.get(&users).await.problem(404, "not_found");
        assert_eq!(session.get("/v1/projects").await.ok()["data"], json!([]));
        for path in [
            format!("/v1/keys/{}", key.id),
            format!("/v1/tokens/{}", token.id),
            format!("/v1/webhooks/{webhook}"),
            format!("/v1/resources/{network}"),
        ] {
            session.get(&path).await.problem(404, "not_found");
        }
        let accept = json!({ "token": invited["invitation"], "password": "correct horse battery staple" });
        there.anonymous().post("/v1/invitations/accept", accept).await.problem(404, "not_found");
        let mut db = here.db.acquire().await.unwrap();
        let left: Vec<_> = rows_of(&mut db, &owner.project).await.into_iter().map(|(table, _)| table).collect();
        for table in ["keys", "members", "tokens", "webhook_deliveries"] {
            assert!(left.iter().any(|left| left == table), "{table}: {left:?}");
        }
        lock.commit().await.unwrap();
        eventually("the rows to be removed", async || {
            sqlx::query("UPDATE purges SET due_at = now()").execute(&mut *db).await.unwrap();
            purge_batch(&mut db).await.unwrap();
            let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM purges").fetch_one(&mut *db).await.unwrap();
            (jobs == 0).then_some(())
        })
        .await;
        assert_eq!(rows_of(&mut db, &owner.project).await, []);
    }
}

#[tokio::test]
async fn worker_purges_a_deleted_project_in_batches_and_nothing_else() {
    let app = TestApp::start().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let key = other.key().await;
    key.token(&["users:read"]).await;
    let mut db = app.db.acquire().await.unwrap();
    let of_other = rows_of(&mut db, &other.project).await;
    let project: ProjectId = owner.project.parse().unwrap();
    // More than two batches of each.
    sqlx::query(
        "WITH made AS (INSERT INTO keys (id, project_id, name, scopes, created_at, hint)
                       SELECT gen_random_uuid(), $1, 'key', '{users:read}', now(), 'sk_live_' FROM generate_series(1, 2500)
                       RETURNING id),
              secret AS (INSERT INTO key_secrets (secret_hash, key_id, created_at) SELECT sha256(uuid_send(id)), id, now() FROM made)
         INSERT INTO tokens (id, project_id, secret_hash, hint, name, scopes, issuer_key_id, depth, created_at, expires_at)
         SELECT gen_random_uuid(), $1, sha256(uuid_send(id)), 'cap_', 'token', '{users:read}', id, 1, now(), now() + interval '1 day'
         FROM made",
    )
    .bind(project)
    .execute(&mut *db)
    .await
    .unwrap();
    archive_and_delete(&owner).await;
    eventually("the rows to be removed", async || rows_of(&mut db, &owner.project).await.is_empty().then_some(()))
        .await;
    assert_eq!(rows_of(&mut db, &other.project).await, of_other);
    key.get("/v1/users").await.ok();
}

#[tokio::test]
async fn deletion_waits_for_an_addition_in_progress_and_refuses_a_later_one() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let project: ProjectId = owner.project.parse().unwrap();
    let insert = "INSERT INTO keys (id, project_id, name, scopes, created_at, hint)
                  VALUES (gen_random_uuid(), $1, 'key', '{users:read}', now(), 'sk_live_')";
    owner.post_empty(&format!("/v1/projects/{}/archive", owner.project)).await.ok();
    let mut adding = app.db.begin().await.unwrap();
    sqlx::query(insert).bind(project).execute(&mut *adding).await.unwrap();
    let path = format!("/v1/projects/{}", owner.project);
    let add = async {
        eventually("the deletion to wait", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                         AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'";
            let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap();
            (waiting > 0).then_some(())
        })
        .await;
        adding.commit().await.unwrap();
    };
    let (deleted, ()) = tokio::join!(owner.delete(&path), add);
    deleted.ok();
    let mut db = app.db.acquire().await.unwrap();
    eventually("the rows to be removed", async || rows_of(&mut db, &owner.project).await.is_empty().then_some(()))
        .await;
    let refused = sqlx::query(insert).bind(project).execute(&mut *db).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("23503"));
}

#[tokio::test]
async fn locked_row_of_a_deleted_project_does_not_delay_the_purge_of_another() {
    let app = TestApp::start().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    app.member(&owner, Role::Viewer).await;
    let project: ProjectId = owner.project.parse().unwrap();
    let mut lock = app.db.begin().await.unwrap();
    let sql = "SELECT FROM members WHERE project_id = $1 LIMIT 1 FOR KEY SHARE";
    sqlx::query(sql).bind(project).execute(&mut *lock).await.unwrap();
    for deleted in [&owner, &other] {
        archive_and_delete(deleted).await;
    }
    let mut db = app.db.acquire().await.unwrap();
    eventually("the other project's rows to be removed", async || {
        rows_of(&mut db, &other.project).await.is_empty().then_some(())
    })
    .await;
    eventually("only the locked row to be left", async || {
        (rows_of(&mut db, &owner.project).await == [("members".to_owned(), 1)]).then_some(())
    })
    .await;
    lock.rollback().await.unwrap();
}
