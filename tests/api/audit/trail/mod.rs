//! The audit trail: reading, exporting, retention and independent verification.

mod exports;
mod filters;
mod lists;
mod redaction;
mod retention;
mod tampering;

use std::{fs, process::Output};

use cloudapi::base::{hex, id::ProjectId, runtime::clock::Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Identity, Session, TestApp, binary::Deployment, eventually, trail::all_sealed};

/// Waits until all staged entries are sealed.
async fn sealed(app: &TestApp) {
    all_sealed(&app.db).await;
}

/// The entries of a page.
fn data(page: &Value) -> &Vec<Value> {
    page["data"].as_array().unwrap()
}

/// Actions of the entries.
fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap_or("-")).collect()
}

/// One project's trail, with an owner who can read it.
struct Trail<'a> {
    app: &'a TestApp,
    owner: Session<'a>,
    operator: Operator,
}

impl<'a> Trail<'a> {
    /// Creates a project with `keys` keys.
    async fn of(app: &'a TestApp, keys: usize) -> Self {
        let owner = app.owner().await;
        for number in 0..keys {
            owner.key_with(json!({ "name": format!("key {number}") })).await;
        }
        let trail = Self { app, owner, operator: Operator::of(app) };
        trail.sealed().await;
        trail
    }

    /// Waits until all staged entries of the project are sealed.
    async fn sealed(&self) {
        eventually("the project's entries to be sealed", async || {
            let sql = "SELECT EXISTS (SELECT FROM audit_staged WHERE project_id = $1)";
            let is_staged: bool =
                sqlx::query_scalar(sql).bind(self.project_uuid()).fetch_one(&self.app.db).await.unwrap();
            (!is_staged).then_some(())
        })
        .await;
    }

    fn project(&self) -> &str {
        &self.owner.project
    }

    /// The project's UUID in the database.
    fn project_uuid(&self) -> Uuid {
        let id: ProjectId = self.project().parse().unwrap();
        Uuid::from_u128(id.as_u128())
    }

    /// A page of entries.
    async fn entries(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/audit-logs?project_id={}&limit=100{query}", self.project());
        data(&self.owner.get(&path).await.ok()).clone()
    }

    /// Stages an entry like a server of another release or with another clock.
    async fn stage(&self, action: &str, time: Timestamp) {
        let entry = format!(
            r#"{{"action":"{action}","actor":{{"credential_id":null,"id":null,"type":"system"}},"changes":{{}},"occurred_at":"{time}","outcome":"success","request_id":null,"source_ip":null,"target":null,"traceparent":null,"user_agent":null}}"#
        );
        sqlx::query("INSERT INTO audit_staged (project_id, entry) VALUES ($1, $2)")
            .bind(self.project_uuid())
            .bind(entry)
            .execute(&self.app.db)
            .await
            .unwrap();
    }

    /// Complete export.
    async fn export(&self) -> String {
        let path = format!("/v1/audit-logs/export?project_id={}", self.project());
        let reply = self.owner.get(&path).await;
        assert_eq!(reply.status, 200);
        String::from_utf8(reply.body).unwrap()
    }

    /// Exports the trail and verifies the export.
    async fn verify(&self, arguments: &[&str]) -> Verdict {
        self.operator.verify(&self.export().await, arguments)
    }

    /// Public key of the deployment.
    fn key(&self) -> String {
        hex::encode(&self.app.signer.public_key())
    }

    /// Changes the database like an attacker with full access; `$1` is the project.
    async fn tamper(&self, sql: &'static str) {
        for statement in sql.split(';') {
            let done = sqlx::query(statement).bind(self.project_uuid()).execute(&self.app.db).await.unwrap();
            assert!(done.rows_affected() > 0, "nothing was changed by {statement}");
        }
    }
}

/// Operator with a command line and files on the server's machine.
struct Operator {
    deployment: Deployment,
    database: sqlx::postgres::PgConnectOptions,
}

impl Operator {
    fn of(app: &TestApp) -> Self {
        let deployment = Deployment::new();
        let data = deployment.folder().join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("secret.key"), app.server_key.to_text()).unwrap();
        Self { deployment, database: app.db.connect_options().as_ref().clone() }
    }

    /// Runs a command on the database to completion. Returns success, standard output and standard error.
    async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        // The server in this process must keep running meanwhile.
        tokio::task::block_in_place(|| self.deployment.run_on(&self.database, arguments))
    }

    fn file(&self, name: &str, content: &str) -> String {
        fs::write(self.deployment.folder().join(name), content).unwrap();
        name.to_owned()
    }

    /// Verifies an export.
    fn verify(&self, export: &str, arguments: &[&str]) -> Verdict {
        let file = self.file("export.ndjson", export);
        Verdict::of(&self.deployment.run(&[&["audit", "verify", &file, "--json"], arguments].concat()))
    }
}

/// Result of a verification.
#[derive(Debug)]
struct Verdict {
    code: i32,
    said: Value,
    errors: String,
}

impl Verdict {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let said = serde_json::from_str(&text).unwrap_or(Value::Null);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code().unwrap(), said, errors }
    }

    /// Checks that the export is intact. Returns the report about the trail.
    #[track_caller]
    fn expect_intact(self) -> Value {
        assert_eq!((self.code, &self.said["intact"]), (0, &json!(true)), "{self:?}");
        self.said["trail"].clone()
    }

    /// Checks that the export is broken at the entry with this number, for this reason.
    #[track_caller]
    fn expect_broken(self, seq: impl Into<Option<i64>>, reason: &str) {
        assert_eq!((self.code, &self.said["intact"]), (1, &json!(false)), "{self:?}");
        let broken = &self.said["broken"];
        assert_eq!(broken["seq"], json!(seq.into()), "{self:?}");
        assert!(broken["reason"].as_str().unwrap().contains(reason), "{self:?}");
    }
}
