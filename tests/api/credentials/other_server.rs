//! A credential lookup counts only on the PostgreSQL server that commits this node's heartbeats, and only in a snapshot
//! that contains everything the node has applied.

use std::{sync::atomic::Ordering, time::Duration};

use cloudapi::{
    auth::revocation::{lease::Timing, node},
    base::runtime::clock::since_boot,
    db::Stamp,
    server::state::AppOptions,
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{
    Bearer, Identity, Reply, TestApp,
    app::unknown_secret,
    diverted_connections::{divert_all, divert_open, pool_connections, restore, running, start_peer},
    eventually,
};

const USERS: &str = "/v1/users?limit=1";

fn with_cache(auth_cache: bool) -> AppOptions {
    AppOptions { auth_cache, ..AppOptions::default() }
}

fn bearer<'a>(app: &'a TestApp, secret: &str) -> Bearer<'a> {
    Bearer { app, secret: secret.to_owned() }
}

#[tokio::test]
async fn lookups_and_membership_reads_leave_connections_to_another_postgresql() {
    let here = TestApp::start().await;
    let there = start_peer(&here, with_cache(true)).await;
    let owner = here.owner().await;
    let session = there.another_session(&owner).await;
    let users = format!("/v1/users?project_id={}", owner.project);
    session.get(&users).await.ok();
    let misled = divert_open(&there).await;
    assert!(!misled.is_empty());
    // Each request that reads on a misled connection closes it. Background work may still use one.
    eventually("all misled connections to be closed", async || {
        let key = owner.key().await;
        bearer(&there, &key.secret).get(USERS).await.ok();
        session.get(&users).await.ok();
        session.get("/v1/projects").await.ok();
        let left = running(&there, &misled).await;
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn node_without_connection_to_its_heartbeat_server_responds_503_and_caches_nothing() {
    for auth_cache in [true, false] {
        let here = TestApp::start().await;
        let there = start_peer(&here, with_cache(auth_cache)).await;
        let owner = here.owner().await;
        let session = there.another_session(&owner).await;
        let (key, known) = (owner.key().await, owner.key().await);
        let token = key.token(&["users:read"]).await;
        let users = format!("/v1/users?project_id={}", owner.project);
        session.get(&users).await.ok();
        let issue = async || {
            let body = json!({ "name": "ci", "scopes": ["users:read"] });
            let request = bearer(&there, &known.secret).request("POST", "/v1/tokens").json(&body);
            request.header("idempotency-key", "issue").send().await
        };
        issue().await.created();

        divert_all(&there).await;
        let refused = |reply: Reply| {
            assert_eq!(reply.header("retry-after"), Some("1"));
            reply.problem(503, "auth_unavailable")
        };
        refused(bearer(&there, &key.secret).get(USERS).await);
        refused(bearer(&there, &token.secret).get(USERS).await);
        refused(bearer(&there, &there.another_session(&owner).await.secret).get("/v1/sessions").await);
        // Unknown credentials get the same response.
        refused(bearer(&there, &unknown_secret(cloudapi::base::identity::secret::SecretKind::Key)).get(USERS).await);
        refused(session.get(&users).await);
        refused(session.get("/v1/projects").await);
        refused(session.post("/v1/keys", json!({ "project_id": owner.project })).await);
        // A replay would confirm a write that this PostgreSQL server may not have.
        refused(issue().await);
        let ready = there.anonymous().get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready["checks"]["lease"].as_str().unwrap().starts_with("no look-up"), "{}", ready["checks"]["lease"]);

        owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        refused(bearer(&there, &key.secret).get(USERS).await);
        restore(&there).await;
        eventually("lookups to count again", async || {
            let reply = bearer(&there, &known.secret).get(USERS).await;
            (reply.status == 200).then_some(())
        })
        .await;
        bearer(&there, &key.secret).get(USERS).await.problem(401, "token_revoked");
        bearer(&there, &token.secret).get(USERS).await.problem(401, "token_revoked");
    }
}

#[tokio::test]
async fn rejected_lookups_close_their_connections() {
    let here = TestApp::start().await;
    let there = start_peer(&here, with_cache(true)).await;
    let key = here.owner().await.key().await;
    bearer(&there, &key.secret).get(USERS).await.ok();
    let before = pool_connections(&there).await;
    assert!(!before.is_empty());
    divert_all(&there).await;
    let secret = unknown_secret(cloudapi::base::identity::secret::SecretKind::Key);
    eventually("the pool's connections to be closed", async || {
        bearer(&there, &secret).get(USERS).await.problem(503, "auth_unavailable");
        (running(&there, &before).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn connection_with_an_old_snapshot_does_not_accept_a_revoked_key() {
    let here = TestApp::start().await;
    let there = here.start_peer(AppOptions::default()).await;
    let owner = here.owner().await;
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(owner.key().await);
    }
    there.lease().await;
    // The pool's connections have open transactions with old snapshots.
    let mut frozen = Vec::new();
    while let Some(mut db) = there.db.try_acquire() {
        let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT seq FROM auth_clock";
        sqlx::raw_sql(sql).execute(&mut *db).await.unwrap();
        frozen.push(db);
    }
    assert!(!frozen.is_empty());
    for key in &keys {
        owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    }
    drop(frozen);
    for key in &keys {
        bearer(&there, &key.secret).get(USERS).await.problem(401, "token_revoked");
    }
}

#[tokio::test]
async fn no_credential_is_accepted_without_a_committed_heartbeat_with_or_without_cache() {
    for auth_cache in [true, false] {
        let app = TestApp::start_with(with_cache(auth_cache)).await;
        let owner = app.owner().await;
        let key = owner.key().await;
        key.get(USERS).await.ok();
        // The heartbeat has to wait, as for a lost synchronous standby.
        let mut db = PgConnection::connect_with(&app.db.connect_options()).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE auth_nodes IN EXCLUSIVE MODE").execute(&mut db).await.unwrap();
        eventually("the lease to expire", async || app.node.lease.remaining(since_boot()).is_none().then_some(()))
            .await;
        key.get(USERS).await.problem(503, "auth_unavailable");
        owner.get(&format!("/v1/users?project_id={}", owner.project)).await.problem(503, "auth_unavailable");
        let ready = app.anonymous().get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready["checks"]["lease"].as_str().unwrap().starts_with("not held"), "{}", ready["checks"]["lease"]);
        db.close().await.unwrap();
        eventually("the key to be accepted again", async || (key.get(USERS).await.status == 200).then_some(())).await;
        let lease: Value = app.anonymous().get("/readyz").await.ok()["checks"]["lease"].clone();
        let is_on = app.node.credentials.is_some();
        assert_eq!(lease, if is_on { "ok" } else { "off: each request reads the database" });
    }
}

#[tokio::test]
async fn acknowledgments_count_only_on_the_server_that_committed_the_revocation() {
    let app = TestApp::start().await;
    app.lease().await;
    let clock = node::clock(&mut app.db.acquire().await.unwrap()).await.unwrap();
    let figures = || {
        let read = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
        (read(&app.node.metrics.invalidations_by_ack), read(&app.node.metrics.invalidations_by_time))
    };
    app.node.confirm(&[], &clock, since_boot()).await;
    assert_eq!(figures(), (1, 0));
    let (elsewhere, begun) = (Stamp { server: "elsewhere".to_owned().into(), ..clock.clone() }, since_boot());
    app.node.confirm(&[], &elsewhere, begun).await;
    assert_eq!(figures(), (1, 1));
    assert!(since_boot() - begun >= Timing::DEFAULT.wait);
    // The same server, but at an earlier position.
    let (ahead, begun) = (Stamp { seq: clock.seq + 1, ..clock }, since_boot());
    app.node.confirm(&[], &ahead, begun - (Timing::DEFAULT.wait - Duration::from_millis(100))).await;
    assert_eq!(figures(), (1, 2));
}
