//! Revocations and restrictions of a credential take effect on every node before the response. Two servers run on one
//! database; one has the credential cached when the other changes it.

use std::{future::Future, time::Duration};

use cloudapi::{base::identity::role::Role, server::state::AppOptions};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Bearer, Identity, Key, Session, TestApp, eventually};

const USERS: &str = "/v1/users?limit=1";
const SESSIONS: &str = "/v1/sessions?limit=1";

/// Two servers: changes are made `here`, credentials are used `there`.
struct ServerPair {
    here: TestApp,
    there: TestApp,
}

impl ServerPair {
    async fn start() -> Self {
        let here = TestApp::start().await;
        let there = here.start_peer(AppOptions::default()).await;
        here.lease().await;
        there.lease().await;
        Self { here, there }
    }

    fn there(&self, secret: &str) -> Bearer<'_> {
        Bearer { app: &self.there, secret: secret.to_owned() }
    }

    /// Uses a credential `there` twice, so that it is cached if there is a cache.
    async fn cached(&self, secret: &str, path: &str) -> Bearer<'_> {
        let bearer = self.there(secret);
        bearer.get(path).await.ok();
        // On a slow machine, the node may have just lost its lease.
        eventually("a cache hit", async || {
            let hits = self.there.cache_hits();
            bearer.get(path).await.ok();
            (self.there.node.credentials.is_none() || self.there.cache_hits() > hits).then_some(())
        })
        .await;
        bearer
    }
}

/// A key of a new project, a token that it issued, and a token that the token issued; all cached `there`.
struct Chain<'a> {
    owner: Session<'a>,
    key: Key<'a>,
    /// The key, the token and the nested token, as used `there`.
    used: [Bearer<'a>; 3],
    token_ids: [String; 2],
}

async fn chain(pair: &ServerPair) -> Chain<'_> {
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read", "tokens:write"]).await;
    let child = token.token(&["users:read"]).await;
    let used = [
        pair.cached(&key.secret, USERS).await,
        pair.cached(&token.secret, USERS).await,
        pair.cached(&child.secret, USERS).await,
    ];
    Chain { owner, key, used, token_ids: [token.id, child.id] }
}

impl Chain<'_> {
    fn key_path(&self) -> String {
        format!("/v1/keys/{}", self.key.id)
    }

    fn project_path(&self, action: &str) -> String {
        format!("/v1/projects/{}{action}", self.owner.project)
    }

    /// Error code of a request with each of the three, or "ok".
    async fn statuses(&self) -> Vec<String> {
        let mut answers = Vec::new();
        for used in &self.used {
            let reply = used.get(USERS).await;
            answers.push(reply.json()["code"].as_str().unwrap_or("ok").to_owned());
        }
        answers
    }
}

#[tokio::test]
async fn revoked_key_and_its_tokens_are_rejected_on_another_server() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    chain.owner.delete(&chain.key_path()).await.ok();
    assert_eq!(chain.statuses().await, ["token_revoked"; 3]);
}

#[tokio::test]
async fn revoked_token_and_only_its_tokens_are_rejected_on_another_server() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    chain.owner.delete(&format!("/v1/tokens/{}", chain.token_ids[1])).await.ok();
    assert_eq!(chain.statuses().await, ["ok", "ok", "token_revoked"]);
    chain.owner.delete(&format!("/v1/tokens/{}", chain.token_ids[0])).await.ok();
    assert_eq!(chain.statuses().await, ["ok", "token_revoked", "token_revoked"]);
}

#[tokio::test]
async fn removing_and_restoring_a_keys_scopes_takes_effect_on_another_server() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    chain.owner.patch(&chain.key_path(), json!({ "scopes": ["usage:read"] })).await.ok();
    assert_eq!(chain.statuses().await, ["insufficient_scope"; 3]);
    chain.owner.patch(&chain.key_path(), json!({ "scopes": ["users:read", "tokens:write"] })).await.ok();
    assert_eq!(chain.statuses().await, ["ok"; 3]);
}

#[tokio::test]
async fn earlier_expiry_of_a_key_takes_effect_on_another_server() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    let end = pair.here.clock.now().plus(Duration::from_secs(60));
    chain.owner.patch(&chain.key_path(), json!({ "expires_at": end })).await.ok();
    assert_eq!(chain.statuses().await, ["ok"; 3]);
    pair.here.clock.advance(Duration::from_secs(61));
    assert_eq!(chain.statuses().await, ["token_expired", "token_revoked", "token_revoked"]);
    // An expired key stays expired when the wall clock is set back.
    pair.here.clock.set_back(Duration::from_secs(3600));
    assert_eq!(chain.statuses().await, ["token_expired", "token_revoked", "token_revoked"]);
}

#[tokio::test]
async fn allowed_ips_and_rate_limit_of_a_key_take_effect_on_another_server() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    chain.owner.patch(&chain.key_path(), json!({ "allowed_ips": ["203.0.113.1"] })).await.ok();
    assert_eq!(chain.statuses().await, ["ip_not_allowed"; 3]);
    let bounds = json!({ "allowed_ips": [], "rate_limit": { "requests": 2, "per_seconds": 3600 } });
    chain.owner.patch(&chain.key_path(), bounds).await.ok();
    assert_eq!(chain.statuses().await, ["ok", "ok", "rate_limited"]);
}

#[tokio::test]
async fn old_secret_of_a_rotated_key_expires_on_another_server_after_its_overlap() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    let rotate = format!("{}/rotate", chain.key_path());
    let next = chain.owner.post(&rotate, json!({ "overlap_seconds": 60 })).await.created();
    assert_eq!(chain.statuses().await, ["ok"; 3]);
    pair.here.clock.advance(Duration::from_secs(61));
    assert_eq!(chain.statuses().await, ["token_expired", "ok", "ok"]);
    let next = pair.cached(next["key"].as_str().unwrap(), USERS).await;
    chain.owner.post(&rotate, json!({ "overlap_seconds": 0 })).await.created();
    next.get(USERS).await.problem(401, "token_expired");
}

#[tokio::test]
async fn suspend_resume_archive_and_delete_of_a_project_take_effect_on_another_server() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    chain.owner.post_empty(&chain.project_path("/suspend")).await.ok();
    assert_eq!(chain.statuses().await, ["project_suspended"; 3]);
    chain.owner.post_empty(&chain.project_path("/resume")).await.ok();
    assert_eq!(chain.statuses().await, ["ok"; 3]);
    chain.owner.post_empty(&chain.project_path("/archive")).await.ok();
    assert_eq!(chain.statuses().await, ["project_archived"; 3]);
    chain.owner.delete(&chain.project_path("")).await.ok();
    assert_eq!(chain.statuses().await, ["invalid_token"; 3]);
}

#[tokio::test]
async fn tokens_of_a_member_follow_role_and_membership_on_another_server() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let admin = pair.here.member(&owner, Role::Admin).await;
    let token = admin.token(&["keys:write", "users:read"]).await;
    let used = pair.cached(&token.secret, USERS).await;
    let session = pair.cached(&admin.secret, SESSIONS).await;
    let membership = format!("/v1/users/{}?project_id={}", admin.user_id, owner.project);
    owner.patch(&membership, json!({ "role": "viewer" })).await.ok();
    used.delete("/v1/keys/key_1").await.problem(403, "insufficient_scope");
    used.get(USERS).await.ok();
    owner.delete(&membership).await.ok();
    used.get(USERS).await.problem(401, "token_revoked");
    session.get(&format!("{USERS}&project_id={}", owner.project)).await.problem(404, "not_found");
    session.get(SESSIONS).await.ok();
}

#[tokio::test]
async fn revoked_session_is_rejected_on_another_server() {
    let pair = ServerPair::start().await;
    let user = pair.here.user().await;
    let (second, third) = (pair.here.another_session(&user).await, pair.here.another_session(&user).await);
    let mut used = Vec::new();
    for session in [&user, &second, &third] {
        used.push(pair.cached(&session.secret, SESSIONS).await);
    }
    user.delete("/v1/sessions/current").await.ok();
    used[0].get(SESSIONS).await.problem(401, "token_revoked");
    second.delete(&format!("/v1/sessions/{}", third.id)).await.ok();
    used[2].get(SESSIONS).await.problem(401, "token_revoked");
    used[1].get(SESSIONS).await.ok();
}

#[tokio::test]
async fn password_change_revokes_the_other_sessions_on_another_server() {
    let pair = ServerPair::start().await;
    let user = pair.here.user().await;
    pair.here.set_password(&user, "correct horse battery staple").await;
    let other = pair.here.another_session(&user).await;
    let used = [pair.cached(&user.secret, SESSIONS).await, pair.cached(&other.secret, SESSIONS).await];
    let body =
        json!({ "current_password": "correct horse battery staple", "new_password": "an entirely different one" });
    user.post("/v1/users/me/password", body).await.ok();
    used[0].get(SESSIONS).await.ok();
    used[1].get(SESSIONS).await.problem(401, "token_revoked");
}

#[tokio::test]
async fn introspection_from_the_cache_sees_a_revocation_immediately() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    let asking = pair.cached(&chain.owner.key().await.secret, USERS).await;
    let ask = async || {
        let body = json!({ "token": chain.used[2].secret });
        asking.post("/v1/tokens/introspect", body).await.ok()["active"].clone()
    };
    assert_eq!(ask().await, json!(true));
    chain.owner.delete(&chain.key_path()).await.ok();
    assert_eq!(ask().await, json!(false));
}

/// Adds a node that hangs: it never acknowledges anything.
async fn join_a_silent_node(db: &PgPool) -> Uuid {
    let node = Uuid::new_v4();
    sqlx::query("INSERT INTO auth_nodes (node_id) VALUES ($1)").bind(node).execute(db).await.unwrap();
    node
}

/// Checks that `revocation` gets no response while only the silent node has not confirmed. Then confirms for the silent
/// node and returns the response.
async fn response_after_confirmation<T>(pair: &ServerPair, silent: Uuid, revocation: impl Future<Output = T>) -> T {
    let db = &pair.here.db;
    let others =
        "SELECT bool_and(acked_seq = (SELECT seq FROM auth_clock)) IS NOT FALSE FROM auth_nodes WHERE node_id <> $1";
    let only_the_silent_one_is_missing = async {
        // Long enough to reach the wait: an early response would have arrived by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        eventually("all nodes but one to confirm", async || {
            let confirmed: bool = sqlx::query_scalar(others).bind(silent).fetch_one(db).await.unwrap();
            confirmed.then_some(())
        })
        .await;
    };
    let mut revocation = std::pin::pin!(revocation);
    tokio::select! {
        _ = &mut revocation => panic!("response before every node confirmed"),
        () = only_the_silent_one_is_missing => {}
    }
    let confirm = "UPDATE auth_nodes SET acked_seq = (SELECT seq FROM auth_clock) WHERE node_id = $1";
    sqlx::query(confirm).bind(silent).execute(db).await.unwrap();
    revocation.await
}

/// Makes the silent node fall behind again, but not long enough to be removed.
async fn mute_node(db: &PgPool, node: Uuid) {
    let sql = "UPDATE auth_nodes SET acked_seq = 0, stamp = stamp + 1 WHERE node_id = $1";
    sqlx::query(sql).bind(node).execute(db).await.unwrap();
}

#[tokio::test]
async fn revocation_and_its_repetition_wait_until_every_server_has_confirmed() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let silent = join_a_silent_node(&pair.here.db).await;
    let path = format!("/v1/keys/{}", key.id);
    for _ in 0..2 {
        response_after_confirmation(&pair, silent, owner.delete(&path)).await.ok();
        mute_node(&pair.here.db, silent).await;
    }
}

#[tokio::test]
async fn retried_restriction_of_a_key_waits_like_the_first_request() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let silent = join_a_silent_node(&pair.here.db).await;
    let send = || {
        let call = owner.request("PATCH", &format!("/v1/keys/{}", key.id)).json(&json!({ "scopes": ["users:read"] }));
        call.header("idempotency-key", "narrow").send()
    };
    let first = response_after_confirmation(&pair, silent, send()).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    mute_node(&pair.here.db, silent).await;
    let again = response_after_confirmation(&pair, silent, send()).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.ok(), again.ok());
}

#[tokio::test]
async fn silent_server_delays_a_revocation_only_until_its_lease_has_expired() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    join_a_silent_node(&pair.here.db).await;
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    let by_time = pair.here.node.metrics.invalidations_by_time.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(by_time, 1);
    // The other nodes remove it and no longer wait for it.
    eventually("the silent node to be removed", async || {
        let nodes: i64 = sqlx::query_scalar("SELECT count(*) FROM auth_nodes WHERE acked_seq = 0")
            .fetch_one(&pair.here.db)
            .await
            .unwrap();
        (nodes == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn removed_server_rejoins_with_an_empty_cache() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    sqlx::query("DELETE FROM auth_nodes").execute(&pair.here.db).await.unwrap();
    // Neither node is waited for. Each notices within a second and drops its cache.
    eventually("both nodes to rejoin", async || {
        let nodes: i64 = sqlx::query_scalar("SELECT count(*) FROM auth_nodes WHERE acked_seq > 0 OR stamp > 0")
            .fetch_one(&pair.here.db)
            .await
            .unwrap();
        (pair.here.node.credentials.is_none() || nodes == 2).then_some(())
    })
    .await;
    pair.there.lease().await;
    chain.owner.delete(&chain.key_path()).await.ok();
    assert_eq!(chain.statuses().await, ["token_revoked"; 3]);
}

#[tokio::test]
async fn gap_in_the_invalidation_log_empties_the_cache() {
    let pair = ServerPair::start().await;
    let chain = chain(&pair).await;
    // As if the log had lost entries that this node had not read.
    sqlx::query("UPDATE auth_clock SET seq = seq + 10").execute(&pair.here.db).await.unwrap();
    sqlx::query("UPDATE keys SET revoked_at = now() WHERE project_id = $1")
        .bind(chain.owner.project.parse::<cloudapi::base::id::ProjectId>().unwrap())
        .execute(&pair.here.db)
        .await
        .unwrap();
    eventually("the gap to be noticed", async || (chain.statuses().await == ["token_revoked"; 3]).then_some(())).await;
}

#[tokio::test]
async fn readyz_shows_the_lease_and_a_stopped_server_removes_its_node() {
    let pair = ServerPair::start().await;
    let checks = |app: &TestApp| {
        let request = app.anonymous().request("GET", "/readyz");
        async { request.send().await.ok()["checks"]["lease"].clone() }
    };
    let without = pair.here.start_peer(AppOptions { auth_cache: false, ..AppOptions::default() }).await;
    assert_eq!(checks(&without).await, json!("off: each request reads the database"));
    if pair.here.node.credentials.is_none() {
        return;
    }
    eventually("a lease", async || (checks(&pair.here).await == "ok").then_some(())).await;
    let (id, db) = (pair.there.node.id, pair.here.db.clone());
    drop(pair.there);
    eventually("the node to be removed", async || {
        let there: Option<Value> = sqlx::query_scalar("SELECT to_jsonb(n) FROM auth_nodes n WHERE node_id = $1")
            .bind(id)
            .fetch_optional(&db)
            .await
            .unwrap();
        there.is_none().then_some(())
    })
    .await;
}
