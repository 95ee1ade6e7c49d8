//! `/v1/audit-logs`.

use std::{collections::BTreeSet, time::Duration};

use cloudapi::base::{identity::role::Role, runtime::clock::Timestamp};
use serde_json::{Value, json};

use super::{Trail, actions, data, sealed};
use crate::support::{Identity, TestApp, eventually};

const MINUTE: Duration = Duration::from_secs(61);

#[tokio::test(flavor = "multi_thread")]
async fn entry_has_actor_action_target_time_and_source() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let made = trail.owner.request("POST", "/v1/keys").header("user-agent", "ci/1");
    let made = made.json(&json!({ "project_id": trail.project(), "name": "deploy" })).send().await;
    trail.sealed().await;
    let entries = trail.entries("").await;
    let entry = entries.iter().find(|entry| entry["action"] == "key.created").unwrap();
    let members: BTreeSet<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "action",
        "actor",
        "actor_name",
        "changes",
        "hash",
        "id",
        "occurred_at",
        "outcome",
        "prev_hash",
        "project_id",
        "redacted",
        "request_id",
        "seq",
        "source_ip",
        "target",
        "target_name",
        "traceparent",
        "user_agent",
    ];
    assert_eq!(members, BTreeSet::from(expected));
    assert_eq!(entry["seq"], 2);
    assert_eq!(entry["prev_hash"], entries[0]["hash"]);
    let actor = json!({ "type": "user", "id": trail.owner.user_id, "credential_id": trail.owner.id });
    assert_eq!(entry["actor"], actor);
    assert_eq!(entry["target"], json!({ "type": "key", "id": made["id"] }));
    assert_eq!((&entry["actor_name"], &entry["target_name"]), (&json!(trail.owner.email), &json!("deploy")));
    assert_eq!((&entry["outcome"], &entry["redacted"]), (&json!("success"), &json!(false)));
    assert_eq!(entry["request_id"].as_str(), made.header("x-request-id"));
    assert_eq!((&entry["source_ip"], &entry["user_agent"]), (&json!("127.0.0.1"), &json!("ci/1")));
    assert!(Timestamp::parse(entry["occurred_at"].as_str().unwrap()).is_some());
    assert_eq!(entry["project_id"], trail.project());
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_can_be_filtered_by_action_actor_and_target() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let key = trail.owner.key().await;
    let token = key.token(&["users:read"]).await;
    trail.owner.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
    let member = app.member(&trail.owner, Role::Admin).await;
    let other = member.key().await;
    trail.sealed().await;
    let found = async |query: String| {
        let entries = trail.entries(&query).await;
        actions(&entries).join(" ")
    };
    assert_eq!(found("&action=token.created".into()).await, "token.created");
    assert_eq!(found(format!("&actor={}", key.id)).await, "token.created");
    assert_eq!(found(format!("&actor={}", member.user_id)).await, "key.created");
    assert_eq!(found(format!("&target={}", token.id)).await, "token.created token.revoked");
    assert_eq!(found(format!("&target={}&action=token.revoked", token.id)).await, "token.revoked");
    assert_eq!(found(format!("&target={}&actor={}", token.id, trail.owner.user_id)).await, "token.revoked");
    assert_eq!(found(format!("&target={}&actor={}", other.id, trail.owner.user_id)).await, "");
    assert_eq!(found("&actor=nobody%20at%20all".into()).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_range_is_exact_for_entries_sealed_late_or_early() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 1).await;
    // As if staged by a server with a wrong clock, or by one that hung before its COMMIT.
    let now = app.clock.now();
    let (early, late) = (now.minus(Duration::from_secs(90_000)), now.plus(Duration::from_secs(90_000)));
    for time in [early, late] {
        trail.stage("key.updated", time).await;
    }
    sealed(&app).await;
    let hour = Duration::from_secs(3600);
    let millisecond = Duration::from_millis(1);
    for (from, to, expected) in [
        (early, early.plus(millisecond), 1),
        (early.minus(hour), early, 0),
        (early.plus(millisecond), now.minus(hour), 0),
        (late, late.plus(millisecond), 1),
        (late.minus(hour), late, 0),
        (early, late.plus(hour), 2),
    ] {
        for order in ["asc", "desc"] {
            let query = format!("&action=key.updated&from={from}&to={to}&order={order}");
            assert_eq!(trail.entries(&query).await.len(), expected, "{query}");
        }
    }
    assert_eq!(trail.entries(&format!("&action=key.updated&from={now}")).await.len(), 1);
    assert_eq!(trail.entries(&format!("&action=key.updated&to={now}")).await.len(), 1);
    assert_eq!(
        actions(&trail.entries(&format!("&from={}&to={}", now.minus(hour), now.plus(hour))).await)[..2],
        ["project.created", "key.created"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_through_a_trail_ends_and_adds_two_audit_read_entries() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let page = async |cursor: &str, order: &str| {
        let path = format!("/v1/audit-logs?project_id={}&limit=1&order={order}{cursor}", trail.project());
        trail.owner.get(&path).await.ok()
    };
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = page(&cursor, "asc").await;
        found.extend(data(&page).clone());
        // The entry about the first read appears on a later page.
        sealed(&app).await;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let seqs: Vec<i64> = found.iter().map(|entry| entry["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, Vec::from_iter(1..=7));
    assert_eq!(actions(&found)[6], "audit.read");
    let (mut backwards, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = page(&cursor, "desc").await;
        backwards.extend(data(&page).clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    backwards.reverse();
    assert_eq!(backwards, found);
    // The other reads are recorded when the minute is over.
    app.clock.advance(MINUTE);
    let rest = eventually("the entry with the count of reads", async || {
        let entries = trail.entries("&action=audit.read&limit=100".trim_end_matches("&limit=100")).await;
        entries.into_iter().find(|entry| entry["changes"]["count"].as_i64() > Some(1))
    })
    .await;
    assert!(rest["changes"]["count"].as_i64().unwrap() >= 6 + 7, "{rest}");
    assert_eq!(rest["actor"]["credential_id"], trail.owner.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_read_of_each_credential_is_recorded_immediately() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let key = trail.owner.key_with(json!({ "scopes": ["audit:read"] })).await;
    for _ in 0..3 {
        key.get("/v1/audit-logs").await.ok();
        trail.entries("").await;
    }
    trail.sealed().await;
    let reads = trail.entries("&action=audit.read").await;
    let by: Vec<&Value> = reads.iter().map(|read| &read["actor"]["credential_id"]).collect();
    assert_eq!(by, [&json!(key.id), &json!(trail.owner.id)]);
    assert_eq!(reads[0]["target"], json!({ "type": "project", "id": trail.project() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn trail_requires_audit_read() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let stranger = app.owner().await;
    let foreign = stranger.key_with(json!({ "scopes": ["audit:read"] })).await;
    let (viewer, admin) = (app.member(&trail.owner, Role::Viewer).await, app.member(&trail.owner, Role::Admin).await);
    let default = trail.owner.key().await;
    for route in ["", "/export", "/checkpoints"] {
        let path = format!("/v1/audit-logs{route}");
        let named = format!("{path}?project_id={}", trail.project());
        viewer.get(&named).await.problem(403, "insufficient_scope");
        stranger.get(&named).await.problem(404, "not_found");
        foreign.get(&named).await.problem(404, "not_found");
        trail.owner.get(&path).await.problem(400, "project_required");
        assert_eq!(admin.get(&named).await.status, 200);
        // A key's default scopes are all `:read` scopes of its creator.
        assert_eq!(default.get(&path).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_parameters_are_rejected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let ask =
        async |query: &str| trail.owner.get(&format!("/v1/audit-logs{query}&project_id={}", trail.project())).await;
    for cursor in ["key_7d1", "evt_4d2", "aud_0", "x"] {
        ask(&format!("?cursor={cursor}")).await.problem(400, "invalid_cursor");
        ask(&format!("/checkpoints?cursor={cursor}")).await.problem(400, "invalid_cursor");
    }
    for (query, parameter) in [
        ("?action=key.creatd", "action"),
        ("?action=", "action"),
        ("?from=yesterday", "from"),
        ("?to=2026-03-01", "to"),
        ("?from=2026-03-01T00:00:00Z&to=2026-03-01T00:00:00Z", "from"),
        ("?actor=", "actor"),
        ("?target=%00", "target"),
        ("/export?format=xml", "format"),
    ] {
        let problem = ask(query).await.problem(400, "invalid_parameter");
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{query}: {problem}");
    }
    ask("?before=2026-03-01T00:00:00Z").await.problem(400, "unknown_parameter");
    assert!(ask("?cursor=aud_4d2").await.ok()["data"].is_array(), "a cursor may be the ID of a nonexistent entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_listed_with_everything_needed_to_verify_them() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 2).await;
    app.clock.advance(MINUTE);
    let path = format!("/v1/audit-logs/checkpoints?project_id={}", trail.project());
    let list = eventually("a checkpoint", async || {
        let list = trail.owner.get(&path).await.ok();
        (!data(&list).is_empty()).then_some(list)
    })
    .await;
    let checkpoint = &data(&list)[0];
    assert_eq!((&checkpoint["seq"], &checkpoint["public_key"]), (&json!(3), &json!(trail.key())));
    let entries = trail.entries("").await;
    assert_eq!(entries[2]["hash"], checkpoint["hash"]);
    let recorded = entries.iter().find(|entry| entry["action"] == "audit.checkpoint").unwrap();
    assert_eq!((&recorded["id"], &recorded["changes"]["signature"]), (&checkpoint["id"], &checkpoint["signature"]));
    // The response itself can be passed to `--checkpoint`.
    let checkpoint_file = trail.operator.file("held.json", &list.to_string());
    let intact = trail.verify(&["--checkpoint", &checkpoint_file]).await.expect_intact();
    assert_eq!((&intact["checkpoints_found"], &intact["key_from"]), (&json!(1), &json!("checkpoint")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_entries_keep_former_action_names_and_match_former_and_current_filters() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 1).await;
    let names = [("resource.mended", "resource.remediated"), ("audit.trimmed", "audit.retention_applied")];
    for (former, current) in names {
        trail.stage(former, app.clock.now()).await;
        trail.stage(current, app.clock.now()).await;
    }
    trail.sealed().await;
    for (former, current) in names {
        for name in [former, current] {
            let found = trail.entries(&format!("&action={name}")).await;
            assert_eq!(actions(&found), [former, current], "{name}");
        }
    }
    trail.verify(&[]).await.expect_intact();

    let (former, current) = names[0];
    for name in [former, current] {
        let events = trail.owner.get(&format!("/v1/events?project_id={}&type={name}", trail.project())).await.ok();
        let types: Vec<&Value> = data(&events).iter().map(|event| &event["type"]).collect();
        assert_eq!(types, [former, current], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_show_the_current_names_of_actors_and_targets() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 0).await;
    let owner = &trail.owner;
    let key = owner.key_with(json!({ "name": "before" })).await;
    let token = key.token(&["users:read"]).await;
    let unnamed = owner.key_with(json!({})).await;
    let invited = json!({ "project_id": trail.project(), "email": "new@example.com", "role": "viewer" });
    let invited = owner.post("/v1/users", invited).await.created();
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "name": "after" })).await.ok();
    sealed(&app).await;
    let entries = trail.entries("").await;
    let names = |action: &str, target: &str| {
        let entry = entries.iter().find(|entry| entry["action"] == action && entry["target"]["id"] == target);
        let entry = entry.unwrap_or_else(|| panic!("no {action} of {target}"));
        [entry["actor_name"].clone(), entry["target_name"].clone()]
    };
    assert_eq!(names("key.created", &key.id), [json!(owner.email), json!("after")]);
    assert_eq!(names("token.created", &token.id), [json!("after"), json!("a token")]);
    assert_eq!(names("key.created", &unnamed.id), [json!(owner.email), json!(null)]);
    assert_eq!(names("project.created", trail.project()), [json!(owner.email), json!("A project")]);
    // The ID of an invited person does not reveal the account.
    let invited = invited["id"].as_str().unwrap();
    assert_eq!(names("user.invited", invited), [json!(owner.email), json!(null)]);
}
