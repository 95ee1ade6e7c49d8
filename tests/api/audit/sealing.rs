//! Sealing of audit entries, also when servers or database connections fail.

use std::{process::Command, time::Duration};

use cloudapi::{
    audit::chain::checkpoint::{SignedStatement, Statement},
    base::{
        id::{AuditId, ProjectId},
        identity::secret::SecretKind,
        runtime::clock::Timestamp,
    },
    server::state::AppOptions,
};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};

use crate::support::{
    Identity, Session, TestApp,
    app::unknown_secret,
    binary::{Deployment, Server},
    cluster, eventually,
    trail::{sealed, sealed_since, staged},
};

async fn make_key(owner: &Session<'_>, name: &str) {
    owner.post("/v1/keys", json!({ "project_id": owner.project, "name": name })).await.created();
}

/// Starts a server process and waits until it is ready.
async fn ready(app: &TestApp, command: Command) -> Server {
    let server = Server::start(command);
    let url = format!("{}/readyz", server.url);
    eventually("the server to be ready", async || {
        (app.http.get(&url).send().await.ok()?.status() == 200).then_some(())
    })
    .await;
    server
}

/// Prevents every server from sealing until the connection is dropped.
async fn hold_the_seal(app: &TestApp) -> PgConnection {
    let mut db = PgConnection::connect_with(&app.db.connect_options()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(0x636c_6f75_6441_7564_i64).execute(&mut db).await.unwrap();
    db
}

#[tokio::test]
async fn eight_concurrent_writers_produce_a_chain_without_a_gap() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    join_all((0..8).map(async |writer| {
        for number in 0..10 {
            make_key(&owner, &format!("{writer}-{number}")).await;
        }
    }))
    .await;
    let recorded = sealed(&app.db).await;
    assert_eq!(recorded.len(), 81);
    // Entries of each writer are in the order of its writes.
    for writer in 0..8 {
        let names = recorded.iter().filter_map(|entry| entry["changes"]["name"].as_str());
        let of_writer: Vec<_> = names.filter(|name| name.starts_with(&format!("{writer}-"))).collect();
        assert_eq!(of_writer, (0..10).map(|number| format!("{writer}-{number}")).collect::<Vec<_>>());
    }
    // Readers are notified of the last entry.
    let last: AuditId = recorded.last().unwrap()["id"].as_str().unwrap().parse().unwrap();
    eventually("notification of the last entry", async || (*app.sealing.last_sealed.borrow() == last).then_some(()))
        .await;
    assert_eq!(app.sealing.lag(), Duration::ZERO);
}

#[tokio::test]
async fn two_servers_seal_one_chain_without_a_fork() {
    let app = TestApp::start().await;
    let other = app.start_peer(AppOptions::default()).await;
    let owner = app.owner().await;
    let there = Session {
        app: &other,
        secret: owner.secret.clone(),
        email: owner.email.clone(),
        id: owner.id.clone(),
        project: owner.project.clone(),
        ..owner
    };
    let mut written = 1;
    // Until both have sealed something.
    eventually("both to seal", async || {
        tokio::join!(make_key(&owner, "here"), make_key(&there, "there"));
        written += 2;
        let count = |app: &TestApp| app.sealing.sealed.load(std::sync::atomic::Ordering::Relaxed);
        (count(&app) > 0 && count(&other) > 0).then_some(())
    })
    .await;
    assert_eq!(sealed(&app.db).await.len(), written);
    let recorded = sealed(&app.db).await;
    let last: AuditId = recorded.last().unwrap()["id"].as_str().unwrap().parse().unwrap();
    for server in [&app, &other] {
        eventually("notification of the last entry", async || {
            (*server.sealing.last_sealed.borrow() == last).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn entries_staged_by_a_killed_server_are_sealed_by_another() {
    let app = TestApp::start().await;
    let deployment = Deployment::new();
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", cluster::url(&app.db.connect_options()));
    let server = ready(&app, command).await;
    let owner = app.owner().await;
    let known = sealed(&app.db).await.len();
    let lock = hold_the_seal(&app).await;
    let answer = app
        .http
        .post(format!("{}/v1/projects", server.url))
        .bearer_auth(&owner.secret)
        .json(&json!({ "name": "n" }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    assert!(server.end(Signal::SIGKILL).was_killed());
    assert_eq!(staged(&app.db).await, 1);
    eventually("a sealing lag", async || (!app.sealing.lag().is_zero()).then_some(())).await;
    drop(lock);
    let recorded = sealed_since(&app.db, known).await;
    assert_eq!((recorded.len(), &recorded[0]["action"]), (1, &json!("project.created")));
}

#[tokio::test]
async fn stopping_server_seals_staged_entries_and_records_denials() {
    let app = TestApp::start().await;
    let deployment = Deployment::new();
    // A separate database: no other server seals the rest.
    let database = cluster::fresh_database().await;
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", cluster::url(&database));
    let server = ready(&app, command).await;
    let (succeeded, session, _) =
        deployment.run_on(&database, &["admin", "bootstrap", "--email", "a@example.com", "--project", "p", "--json"]);
    assert!(succeeded);
    let session: Value = serde_json::from_str(&session).unwrap();
    let ask = |secret: &str| {
        app.http.post(format!("{}/v1/projects", server.url)).bearer_auth(secret).json(&json!({ "name": "n" })).send()
    };
    assert_eq!(ask(&unknown_secret(SecretKind::Session)).await.unwrap().status(), 401);
    assert_eq!(ask(session["session"]["token"].as_str().unwrap()).await.unwrap().status(), 201);
    server.end(Signal::SIGTERM).expect_success();
    let db = PgPool::connect_with(database).await.unwrap();
    assert_eq!(staged(&db).await, 0);
    let recorded = sealed(&db).await;
    let actions: Vec<_> = recorded.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["session.created", "deployment.bootstrapped", "project.created", "request.denied"]);
    assert_eq!(recorded[3]["changes"]["count"], 1);
}

#[tokio::test]
async fn sealing_survives_lost_connections_and_unreadable_entries() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let known = sealed(&app.db).await.len();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut db = PgConnection::connect_with(&app.db.connect_options()).await.unwrap();
    sqlx::query(cut).execute(&mut db).await.unwrap();
    for entry in ["nonsense", "{}", r#"{"action":"\u0000"}"#] {
        let sql = "INSERT INTO audit_staged (project_id, entry) VALUES ($1, $2)";
        sqlx::query(sql).bind(owner.project.parse::<ProjectId>().unwrap()).bind(entry).execute(&mut db).await.unwrap();
    }
    eventually("a successful write", async || {
        let reply = owner.post("/v1/keys", json!({ "project_id": owner.project })).await;
        (reply.status == 201).then_some(())
    })
    .await;
    // Uses a new pool: some of the server's connections may have been cut.
    let look = PgPool::connect_with(app.db.connect_options().as_ref().clone()).await.unwrap();
    let recorded = sealed_since(&look, known).await;
    let found: Vec<_> =
        recorded.iter().map(|entry| (entry["action"].as_str().unwrap(), &entry["changes"]["staged"])).collect();
    let unreadable = |text: &str| ("audit.unreadable", json!(text));
    let expected = [unreadable("nonsense"), unreadable("{}"), unreadable(r#"{"action":"\u0000"}"#)];
    assert!(
        found[..3].iter().zip(&expected).all(|(found, (action, text))| found.0 == *action && found.1 == text),
        "{found:?}"
    );
    assert_eq!((found.len(), found[3].0), (4, "key.created"));
}

#[tokio::test]
async fn checkpoint_is_signed_within_a_minute_and_not_again_without_new_entries() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    sealed(&app.db).await;
    app.clock.advance(Duration::from_secs(61));
    type Row = (ProjectId, AuditId, i64, [u8; 32], Timestamp, [u8; 32], [u8; 64]);
    let checkpoints = async || -> Vec<Row> {
        let sql = "SELECT project_id, id, seq, hash, made_at, public_key, signature FROM audit_checkpoints";
        sqlx::query_as(sql).fetch_all(&app.db).await.unwrap()
    };
    let made = eventually("a checkpoint", async || {
        let made = checkpoints().await;
        (!made.is_empty()).then_some(made)
    })
    .await;
    let [(project_id, id, seq, hash, made_at, public_key, signature)] = made[..] else { panic!("{made:?}") };
    let signed =
        SignedStatement { statement: Statement::Checkpoint, project_id, seq, hash, made_at, public_key, signature };
    assert!(signed.has_valid_signature());
    assert_eq!((project_id.to_string(), seq, public_key), (owner.project.clone(), 1, app.signer.public_key()));
    let (end, entry): ([u8; 32], Vec<u8>) = sqlx::query_as(
        "SELECT a.hash, b.payload FROM audit_entries a, audit_entries b WHERE a.seq = 1 AND b.id = $1 AND b.is_event",
    )
    .bind(id)
    .fetch_one(&app.db)
    .await
    .unwrap();
    let entry: Value = serde_json::from_slice(&entry).unwrap();
    assert_eq!((end, &entry["action"], &entry["seq"]), (hash, &json!("audit.checkpoint"), &json!(2)));
    // The log is a copy of the signature outside the database.
    let signature = entry["changes"]["signature"].as_str().unwrap();
    eventually("the log line", async || app.leak_detector.logged().contains(signature).then_some(())).await;

    // An hour later, no checkpoint follows: there was nothing new to sign.
    app.clock.advance(Duration::from_secs(3600));
    make_key(&owner, "n").await;
    assert_eq!(sealed(&app.db).await.len(), 2);
    assert_eq!(checkpoints().await.len(), 1);
}
