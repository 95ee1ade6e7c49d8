//! Pages of filtered lists: complete in both orders, and short where many items do not match.

use std::{collections::BTreeSet, time::Duration};

use cloudapi::{api::keys, base::identity::role::Role};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Identity, Session, TestApp,
    hooks::{create_idle_webhook, insert_delivery},
};

/// IDs of a list in both orders, which must agree, and the number of its pages in ascending order.
async fn walk(reader: &impl Identity, list: &str, limit: usize) -> (Vec<String>, usize) {
    let mut walks = Vec::new();
    for order in ["asc", "desc"] {
        let (mut ids, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let separator = if list.contains('?') { '&' } else { '?' };
            let page = reader.get(&format!("{list}{separator}limit={limit}&order={order}{cursor}")).await.ok();
            let items = page["data"].as_array().unwrap();
            assert!(items.len() <= limit, "{page}");
            ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        walks.push((ids, pages));
    }
    let mut backwards = walks.pop().unwrap().0;
    backwards.reverse();
    let (ids, pages) = walks.pop().unwrap();
    assert_eq!(ids, backwards, "{list}");
    (ids, pages)
}

/// Pages of two items.
async fn walk_short(reader: &impl Identity, list: &str) -> Vec<String> {
    walk(reader, list, 2).await.0
}

async fn expiring_key(owner: &Session<'_>, seconds: u64) -> String {
    let expires_at = owner.app.clock.now().plus(Duration::from_secs(seconds));
    owner.key_with(json!({ "expires_at": expires_at })).await.id
}

#[tokio::test]
async fn expired_keys_are_listed_before_and_after_their_expiration_is_recorded() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (mut early, mut late, mut active) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        early.push(expiring_key(&owner, 60).await);
        late.push(expiring_key(&owner, 600).await);
        active.push(owner.key().await.id);
    }
    let others = app.owner().await;
    expiring_key(&others, 60).await;
    let list = |status: &str| format!("/v1/keys?project_id={}&status={status}", owner.project);
    let sorted = |keys: &[&Vec<String>]| {
        let mut all: Vec<_> = keys.iter().flat_map(|keys| keys.iter().cloned()).collect();
        all.sort_by_key(|id| u128::from_str_radix(id.strip_prefix("key_").unwrap(), 16).unwrap());
        all
    };
    app.clock.advance(Duration::from_secs(61));
    assert_eq!(walk_short(&owner, &list("expired")).await, early);
    assert_eq!(walk_short(&owner, &list("active")).await, sorted(&[&late, &active]));

    app.clock.advance(Duration::from_secs(60));
    let mut db = app.db.acquire().await.unwrap();
    keys::repo::record_expired(&mut db, app.clock.now()).await.unwrap();
    let recorded = "SELECT count(*) FROM keys WHERE state = 'expired'";
    assert_eq!(sqlx::query_scalar::<_, i64>(recorded).fetch_one(&app.db).await.unwrap(), 4);
    assert_eq!(walk_short(&owner, &list("expired")).await, early);
    assert_eq!(walk_short(&owner, &list("active")).await, sorted(&[&late, &active]));

    // Some recorded, some not.
    app.clock.advance(Duration::from_secs(500));
    assert_eq!(walk_short(&owner, &list("expired")).await, sorted(&[&early, &late]));
    assert_eq!(walk_short(&owner, &list("active")).await, active);

    // An extended key is active again, and a revoked one only revoked.
    let expires_at = app.clock.now().plus(Duration::from_secs(60));
    owner.patch(&format!("/v1/keys/{}", early[0]), json!({ "expires_at": expires_at })).await.ok();
    owner.delete(&format!("/v1/keys/{}", early[1])).await.ok();
    assert_eq!(walk_short(&owner, &list("active")).await, sorted(&[&vec![early[0].clone()], &active]));
    assert_eq!(walk_short(&owner, &list("revoked")).await, [early[1].clone()]);
    assert_eq!(walk_short(&owner, &list("expired")).await, sorted(&[&vec![early[2].clone()], &late]));
}

#[tokio::test]
async fn lists_skip_more_items_than_a_page_may_scan() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let user = Uuid::from_u128(owner.user_id.as_u128());
    // More ended sessions than a request may skip, newer than the owner's and older than the next one.
    sqlx::query(
        "INSERT INTO sessions (id, user_id, secret_hash, created_at, expires_at, revoked_at)
         SELECT ('ffffffff-ffff-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, sha256(n::text::bytea), $2, $2, $2
         FROM generate_series(1, 1300) AS n",
    )
    .bind(user)
    .bind(app.clock.now())
    .execute(&app.db)
    .await
    .unwrap();
    let (sessions, pages) = walk(&owner, "/v1/sessions", 100).await;
    assert_eq!((sessions, pages), (vec![owner.id.clone()], 3));

    // The same for suspended projects.
    sqlx::query(
        "WITH made AS (
             INSERT INTO projects (id, name, status, created_at)
             SELECT ('ffffffff-ffff-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n::text, 'suspended', $2
             FROM generate_series(1, 700) AS n RETURNING id
         )
         INSERT INTO members (project_id, user_id, role, status, created_at) SELECT id, $1, 'owner', 'active', $2 FROM made",
    )
    .bind(user)
    .bind(app.clock.now())
    .execute(&app.db)
    .await
    .unwrap();
    let (projects, pages) = walk(&owner, "/v1/projects?status=active", 100).await;
    assert_eq!((projects, pages), (vec![owner.project.clone()], 2));
    let (suspended, pages) = walk(&owner, "/v1/projects?status=suspended", 100).await;
    assert_eq!((suspended.len(), pages), (700, 7));
    assert_eq!(walk(&owner, "/v1/projects", 100).await.0.len(), 701);
}

#[tokio::test]
async fn users_and_deliveries_are_listed_by_role_and_status() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let mut members = Vec::new();
    for role in [Role::Viewer, Role::Admin, Role::Viewer, Role::Viewer] {
        members.push((app.member(&owner, role).await.user_id.to_string(), role));
    }
    let list = |role: &str| format!("/v1/users?project_id={}&role={role}", owner.project);
    let viewers: Vec<_> = members.iter().filter(|(_, role)| *role == Role::Viewer).map(|(id, _)| id.clone()).collect();
    assert_eq!(walk_short(&owner, &list("viewer")).await, viewers);
    assert_eq!(walk_short(&owner, &list("admin")).await, [members[1].0.clone()]);
    assert_eq!(walk_short(&owner, &list("owner")).await, [owner.user_id.to_string()]);
    assert_eq!(walk_short(&owner, &list("member")).await, Vec::<String>::new());

    let webhook = create_idle_webhook(&owner).await;
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(insert_delivery(&owner, &webhook).await);
    }
    sqlx::query("UPDATE webhook_deliveries SET status = 'failed' WHERE id IN (SELECT id FROM webhook_deliveries ORDER BY id OFFSET 1 LIMIT 3)")
        .execute(&app.db)
        .await
        .unwrap();
    let list = format!("/v1/webhooks/{webhook}/deliveries");
    let unfiltered = walk_short(&owner, &list).await;
    assert_eq!(unfiltered.iter().collect::<BTreeSet<_>>(), deliveries.iter().collect());
    let mut by_status: [Vec<String>; 3] = Default::default();
    let statuses = ["pending", "delivered", "failed"];
    for id in &unfiltered {
        let delivery = owner.get(&format!("{list}/{id}")).await.ok();
        let index = statuses.iter().position(|status| delivery["status"] == *status).unwrap();
        by_status[index].push(id.clone());
    }
    assert_eq!(by_status.each_ref().map(Vec::len), [0, 2, 3]);
    for (status, expected) in statuses.iter().zip(by_status) {
        assert_eq!(walk_short(&owner, &format!("{list}?status={status}")).await, expected, "{status}");
    }
}
