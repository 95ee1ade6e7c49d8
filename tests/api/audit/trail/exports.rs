//! `/v1/audit-logs/export`, and `cloudapi audit`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Trail, Verdict, actions, sealed};
use crate::support::{Identity, TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn export_can_be_verified_without_the_server() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 3).await;
    let export = trail.export().await;
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let Some((end, entries)) = lines.split_last() else { panic!() };
    assert_eq!(actions(entries), ["project.created", "key.created", "key.created", "key.created"]);
    assert_eq!(end["checkpoint"]["seq"], 4);
    assert_eq!(end["checkpoint"]["hash"], entries[3]["hash"]);
    // An exported entry is the listed one plus what is needed to verify it.
    let mut listed = trail.entries("&limit=100".trim_end_matches("&limit=100")).await[0].clone();
    listed["salt"] = entries[0]["salt"].clone();
    // Current names are not part of the trail.
    for added in ["redacted", "actor_name", "target_name"] {
        listed.as_object_mut().unwrap().remove(added);
    }
    assert_eq!(listed, entries[0]);

    let intact = trail.operator.verify(&export, &[]).expect_intact();
    assert_eq!((&intact["entries"], &intact["seq"], &intact["redacted"]), (&json!(4), &json!(4), &json!(0)));
    assert_eq!((&intact["project_id"], &intact["key_from"]), (&json!(trail.project()), &json!("export")));
    let intact = trail.operator.verify(&export, &["--key", &trail.key()]).expect_intact();
    assert_eq!(intact["key_from"], "given");
    // Text output.
    let file = trail.operator.file("export.ndjson", &export);
    let said = trail.operator.deployment.printed(&["audit", "verify", &file]);
    assert!(said.starts_with(&format!("intact: 4 entries of {}", trail.project())), "{said}");
    assert!(said.contains("the key was taken from the export itself"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_accepted_in_every_format_and_a_wrong_key_is_rejected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let export = trail.export().await;
    let printed = trail.operator.deployment.printed(&["audit", "key"]);
    assert_eq!(printed.lines().next(), Some(trail.key().as_str()));
    let both = trail.operator.file("key.txt", &printed);
    let pem = trail.operator.file("key.pem", printed.split_once('\n').unwrap().1);
    let json: Value = serde_json::from_str(&trail.operator.deployment.printed(&["audit", "key", "--json"])).unwrap();
    assert_eq!(
        (&json["public_key"], json["pem"].as_str()),
        (&json!(trail.key()), printed.split_once('\n').map(|(_, pem)| pem))
    );
    for key in [&trail.key(), &both, &pem] {
        trail.operator.verify(&export, &["--key", key]).expect_intact();
    }
    let other = "00".repeat(31) + "01";
    trail.operator.verify(&export, &["--key", &other]).expect_broken(None, "not with the given key");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_cannot_be_verified_exits_with_2() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let file = trail.operator.file("export.ndjson", &trail.export().await);
    let empty = trail.operator.file("empty.json", "");
    for (arguments, says) in [
        (vec!["missing.ndjson"], "missing.ndjson cannot be read"),
        (vec![], "required arguments"),
        (vec![&file, "--key", "abc"], "is neither a public key"),
        (vec![&file, "--checkpoint", "missing.json"], "missing.json cannot be read"),
        (vec![&file, "--checkpoint", &empty], "holds no checkpoint"),
        (vec![&file, "--what"], "--what"),
    ] {
        let verdict =
            Verdict::of(&trail.operator.deployment.run(&[&["audit", "verify"], arguments.as_slice()].concat()));
        assert_eq!(verdict.code, 2, "{arguments:?}: {verdict:?}");
        assert!(verdict.errors.contains(says), "{arguments:?}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_file_is_reported_with_its_line() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 1).await;
    let export = trail.export().await;
    let lines: Vec<&str> = export.lines().collect();
    for (file, line, reason) in [
        (String::new(), 0, "ends without its last line"),
        (lines[0].to_owned(), 1, "does not end with a newline"),
        (format!("{}\n", lines[0]), 1, "ends without its last line"),
        (format!("{}\n\n", lines[0]), 2, "is not in the format of an export"),
        (format!("{export}{}\n", lines[0]), 4, "follows the last line"),
        (format!("{}\n{}\n", lines[1], lines[2]), 1, "are missing"),
        (export.replace("\"key.created\"", "\"key.created\" "), 2, "is not in the canonical form of entries"),
        (
            export.replace("{\"action\":\"key.created\"", "{\"action\":\"key.x\",\"action\":\"key.created\""),
            2,
            "is not in the canonical form of entries",
        ),
        (export.replacen("\"salt\":\"", "\"salt\":\"00", 1), 1, "is not in the format of an export"),
        ("{\"a\":".repeat(100_000) + "\n", 1, "is not in the format of an export"),
    ] {
        let verdict = trail.operator.verify(&file, &[]);
        assert_eq!((verdict.code, &verdict.said["broken"]["line"]), (1, &json!(line)), "{verdict:?}");
        assert!(verdict.said["broken"]["reason"].as_str().unwrap().contains(reason), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_exports_the_deployment_trail_and_project_trails() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 1).await;
    let (done, printed, errors) = trail.operator.run(&["admin", "session", "--email", &trail.owner.email]).await;
    assert!(done, "{errors}");
    app.leak_detector.record(printed.trim());
    sealed(&app).await;
    let (done, export, errors) = trail.operator.run(&["audit", "export", "--deployment"]).await;
    assert!(done, "{errors}");
    assert!(!export.contains(printed.trim()));
    let entries: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&entries[0]["action"], &entries[0]["actor"]["type"]), (&json!("session.created"), &json!("operator")));
    assert_eq!(trail.operator.verify(&export, &["--key", &trail.key()]).expect_intact()["project_id"], Value::Null);
    // A project's export is the same as from the API, except for the checkpoint.
    let (_, of_project, _) = trail.operator.run(&["audit", "export", "--project", trail.project()]).await;
    assert_eq!(of_project.lines().next(), trail.export().await.lines().next());
    let (done, _, errors) = trail.operator.run(&["audit", "export", "--project", "proj_123"]).await;
    assert!(!done && errors.contains("there is no trail of a project 'proj_123'"), "{errors}");
    sealed(&app).await;
    let recorded = trail.entries("&action=audit.exported").await;
    let by: Vec<_> = recorded.iter().map(|entry| entry["actor"]["type"].as_str().unwrap()).collect();
    assert_eq!(by, ["operator", "user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn export_is_recorded_in_the_trail_and_head_request_is_not() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let path = format!("/v1/audit-logs/export?project_id={}", trail.project());
    let head = trail.owner.request("HEAD", &path).send().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
    let csv = trail.owner.get(&format!("{path}&format=csv")).await;
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(csv.header("cache-control"), Some("no-store"));
    let name = format!("attachment; filename=\"audit-{}.csv\"", trail.project());
    assert_eq!(csv.header("content-disposition"), Some(name.as_str()));
    trail.sealed().await;
    let recorded = trail.entries("&action=audit.exported").await;
    assert_eq!(recorded.iter().map(|entry| &entry["changes"]).collect::<Vec<_>>(), [&json!({ "format": "csv" })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_export_has_no_cells_that_a_spreadsheet_evaluates() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 0).await;
    let made = trail.owner.request("POST", "/v1/keys").header("user-agent", "=cmd|' /C calc'!A0");
    made.json(&json!({ "project_id": trail.project(), "name": "a \"b\", c" })).send().await;
    trail.sealed().await;
    let path = format!("/v1/audit-logs/export?format=csv&project_id={}", trail.project());
    let table = String::from_utf8(trail.owner.get(&path).await.body).unwrap();
    let rows: Vec<&str> = table.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[0].starts_with("id,seq,occurred_at,action,outcome,actor_type,"));
    assert!(rows[2].contains(",\"'=cmd|' /C calc'!A0\","), "{table}");
    assert!(!table.contains("hash") && !table.contains("checkpoint"), "{table}");
}

/// Adds large entries to the trail.
async fn fill(trail: &Trail<'_>, entries: i64) {
    sqlx::query(
        r#"INSERT INTO audit_staged (project_id, entry)
           SELECT $1, format('{"action":"key.updated","actor":{"credential_id":null,"id":null,"type":"system"},"changes":{"n":"%s"},"occurred_at":"2026-03-01T00:00:00.000Z","outcome":"success","request_id":null,"source_ip":null,"target":null,"traceparent":null,"user_agent":null}', lpad(n::text, 3000, '0'))
           FROM generate_series(1, $2) n"#,
    )
    .bind(trail.project_uuid())
    .bind(entries)
    .execute(&trail.app.db)
    .await
    .unwrap();
    sealed(trail.app).await;
    // Like autovacuum does within a minute.
    sqlx::query("ANALYZE audit_entries").execute(&trail.app.db).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_trail_is_intact_across_chunks_and_checkpoints() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 1).await;
    fill(&trail, 2500).await;
    let intact = trail.verify(&[]).await.expect_intact();
    // Checkpoints made meanwhile are entries too.
    assert_eq!(intact["entries"], 2 + 2500 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_export_client_holds_no_connection_and_a_disconnect_ends_the_export() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 0).await;
    fill(&trail, 6000).await;
    let mut stream = tokio::net::TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "GET /v1/audit-logs/export?project_id={} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        trail.project(),
        trail.owner.secret
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 4096];
    stream.read_exact(&mut begun).await.unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));
    let pieces = async || {
        let sql = "SELECT calls FROM (SELECT coalesce(sum(idx_tup_fetch), 0)::bigint AS calls FROM pg_stat_user_tables WHERE relname = 'audit_entries') s";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&app.db).await.unwrap()
    };
    // The rest waits for the client without holding a database connection.
    eventually("no export reader", async || (app.audit_logs.export_readers.available_permits() == 2).then_some(()))
        .await;
    eventually("no connection in use", async || (app.db.num_idle() == app.db.size() as usize).then_some(())).await;
    // Background transactions end in a moment.
    eventually("no open transaction", async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&app.db).await.unwrap();
        (open == 0).then_some(())
    })
    .await;
    drop(stream);
    // Statistics are delayed. Their final value must be far below the total.
    let mut last = -1;
    eventually("stable statistics", async || {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let now = pieces().await;
        let is_same = std::mem::replace(&mut last, now) == now;
        is_same.then_some(())
    })
    .await;
    // 6,000 were read when they were sealed, for webhooks.
    assert!(last < 9000, "{last} entries were read for a client that took almost none");
}
