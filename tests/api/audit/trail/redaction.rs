//! `cloudapi audit redact`.

use serde_json::{Value, json};

use super::{Trail, actions, sealed};
use crate::support::{Identity, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn redacted_content_is_gone_and_the_chain_stays_intact() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 1).await;
    let secret = "a name that somebody wants to be forgotten";
    let made = trail.owner.key_with(json!({ "name": secret })).await;
    trail.owner.delete(&format!("/v1/keys/{}", made.id)).await.ok();
    sealed(&app).await;
    let before = trail.entries(&format!("&target={}", made.id)).await;
    let id = before[0]["id"].as_str().unwrap();
    let redact = ["audit", "redact", "--project", trail.project(), id, "--reason", "asked for by the person"];
    let (done, said, errors) = trail.operator.run(&redact).await;
    assert!(done && said.contains("1 entry is redacted"), "{said}{errors}");

    let entries = trail.entries("").await;
    let left = entries.iter().find(|entry| entry["id"] == id).unwrap();
    assert_eq!((&left["redacted"], &left["hash"], &left["seq"]), (&json!(true), &before[0]["hash"], &before[0]["seq"]));
    for member in [
        "occurred_at",
        "actor",
        "action",
        "target",
        "outcome",
        "request_id",
        "source_ip",
        "traceparent",
        "user_agent",
        "changes",
    ] {
        assert_eq!(left[member], Value::Null, "{member}");
    }
    assert_eq!(actions(&trail.entries(&format!("&target={}", made.id)).await), ["key.revoked"]);
    let recorded = &trail.entries("&action=audit.redacted").await[0];
    assert_eq!(recorded["actor"]["type"], "operator");
    assert_eq!(recorded["target"], json!({ "type": "entry", "id": id }));
    assert_eq!(recorded["changes"], json!({ "seq": before[0]["seq"], "reason": "asked for by the person" }));
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_entries WHERE convert_from(payload, 'UTF8') LIKE '%forgotten%'")
            .fetch_one(&app.db)
            .await
            .unwrap();
    assert_eq!(kept, 0);
    let intact = trail.verify(&["--key", &trail.key()]).await.expect_intact();
    assert_eq!((&intact["redacted"], &intact["entries"]), (&json!(1), &intact["seq"]));

    // Redaction is idempotent.
    let (done, said, errors) = trail.operator.run(&redact).await;
    assert!(done && said.contains("1 of them were already redacted"), "{said}{errors}");
    assert_eq!(trail.entries("&action=audit.redacted").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_redactions_change_nothing() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 2).await;
    let entries = trail.entries("").await;
    let id = |at: usize| entries[at]["id"].as_str().unwrap();
    trail.operator.run(&["audit", "redact", "--project", trail.project(), id(0), "--reason", "x"]).await;
    let redaction = &trail.entries("&action=audit.redacted").await[0];
    let redaction = redaction["id"].as_str().unwrap();
    for (arguments, says) in [
        (vec![trail.project(), id(1), "aud_123"], "there is no entry aud_123"),
        (vec![trail.project(), id(1), redaction], "the trail is verified by"),
        (vec!["proj_123", id(1)], "there is no trail of a project"),
        (vec![trail.project(), "key_7d1"], "'key_7d1'"),
        (vec![trail.project()], "AUD_ID"),
    ] {
        let arguments = [&["audit", "redact", "--reason", "x", "--project"], arguments.as_slice()].concat();
        let (done, _, errors) = trail.operator.run(&arguments).await;
        assert!(!done && errors.contains(says), "{arguments:?}: {errors}");
    }
    let (done, _, errors) =
        trail.operator.run(&["audit", "redact", "--project", trail.project(), id(1), "--reason", " "]).await;
    assert!(!done && errors.contains("--reason must have"), "{errors}");
    let (done, _, errors) = trail.operator.run(&["audit", "redact", "--reason", "x", id(1)]).await;
    assert!(!done && errors.contains("--project"), "{errors}");
    sealed(&app).await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_entries WHERE payload IS NULL")
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(left, 1);
}
