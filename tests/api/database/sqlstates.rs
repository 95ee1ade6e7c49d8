//! Each SQLSTATE, raised by the database during a read, a write, a write with an `Idempotency-Key`, a single-statement
//! write, and the lookup of a credential.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use cloudapi::{base::error::Code, db::sqlstate, http::catalog::entry, server::state::AppOptions};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use super::{admin, errcodes::ERRORS};
use crate::support::{Identity, Key, Reply, Session, TestApp, eventually, identity::TestRequest};

/// Where the database fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailurePoint {
    Read,
    Write,
    WriteWithKey,
    SingleStatement,
    LookUp,
}

/// Those that can fail together: a failed lookup prevents the single-statement write, which is sent with a key.
const GROUPS: [&[FailurePoint]; 2] = [
    &[FailurePoint::Read, FailurePoint::Write, FailurePoint::WriteWithKey, FailurePoint::LookUp],
    &[FailurePoint::SingleStatement],
];

fn failure_points() -> impl Iterator<Item = FailurePoint> {
    GROUPS.into_iter().flatten().copied()
}

impl FailurePoint {
    /// The table whose use fails.
    fn table(self) -> &'static str {
        match self {
            Self::Read => "webhooks",
            Self::Write | Self::WriteWithKey => "projects",
            Self::SingleStatement => "tokens",
            Self::LookUp => "key_secrets",
        }
    }
}

/// Whether this error is a bug of the server: an invalid statement, or data that was not validated.
fn is_server_bug(state: &str) -> bool {
    let class = &state[..2];
    let statements = ["03", "09", "0B", "0F", "0L", "0P", "0Z", "20", "21", "24", "27", "2B", "2D", "2F", "3B", "44"];
    match state {
        "42501" | "42P03" | "42P05" | "22021" | "22P05" | "P0001" => false,
        "40002" => true,
        _ => statements.contains(&class) || matches!(class, "22" | "23" | "42" | "P0"),
    }
}

/// Prepares the database so that [`fail`] can inject errors.
async fn prepare(db: &PgPool) {
    // Sequences are not rolled back, so they can count failures.
    sqlx::raw_sql(
        "CREATE TABLE failure (name text, state text, times int);
         CREATE SEQUENCE failures;
         CREATE FUNCTION fail_if_told(a_name text) RETURNS boolean LANGUAGE plpgsql AS $$
         DECLARE told record;
         BEGIN
             SELECT state, times INTO told FROM failure WHERE name = a_name;
             IF FOUND AND nextval('failures') <= told.times THEN
                 RAISE EXCEPTION 'told to fail' USING ERRCODE = told.state;
             END IF;
             RETURN true;
         END $$;
         CREATE FUNCTION fail_write() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM fail_if_told(TG_TABLE_NAME);
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION fail_write();
         CREATE TRIGGER fail BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION fail_write();
         ALTER TABLE webhooks RENAME TO webhooks_table;
         CREATE VIEW webhooks AS SELECT t.* FROM webhooks_table t WHERE fail_if_told('webhooks');
         ALTER TABLE key_secrets RENAME TO key_secrets_table;
         CREATE VIEW key_secrets AS SELECT t.* FROM key_secrets_table t WHERE fail_if_told('key_secrets');",
    )
    .execute(db)
    .await
    .unwrap();
}

/// Makes the next `times` uses of the places fail with `state`.
async fn fail(db: &PgPool, points: &[FailurePoint], state: &str, times: i32) {
    sqlx::query(
        "WITH gone AS (DELETE FROM failure), again AS (SELECT setval('failures', 1, false))
                 INSERT INTO failure SELECT DISTINCT unnest($1::text[]), $2::text, $3::int FROM again",
    )
    .bind(points.iter().map(|point| point.table()).collect::<Vec<_>>())
    .bind(state)
    .bind(times)
    .execute(db)
    .await
    .unwrap();
}

struct Fixture<'a> {
    owner: Session<'a>,
    key: Key<'a>,
}

impl<'a> Fixture<'a> {
    async fn new(app: &'a TestApp) -> Self {
        let owner = app.owner().await;
        let key = owner.key().await;
        let body = json!({ "project_id": owner.project, "url": "https://receiver.invalid/", "event_types": ["project.archived"] });
        owner.post("/v1/webhooks", body).await.created();
        Self { owner, key }
    }

    /// A write of several statements. Each raises the version of the project by one.
    fn edit(&self) -> TestRequest {
        let request = self.owner.request("PATCH", &format!("/v1/projects/{}", self.owner.project));
        request.json(&json!({ "name": "another name" }))
    }

    async fn send(&self, point: FailurePoint, idempotency_key: &str) -> Reply {
        match point {
            FailurePoint::Read => self.owner.get(&format!("/v1/webhooks?project_id={}", self.owner.project)).await,
            FailurePoint::Write => self.edit().send().await,
            FailurePoint::WriteWithKey => self.edit().header("idempotency-key", idempotency_key).send().await,
            FailurePoint::SingleStatement => {
                self.key.post("/v1/tokens", json!({ "name": "a token", "scopes": ["users:read"] })).await
            }
            FailurePoint::LookUp => self.key.get("/v1/projects").await,
        }
    }
}

/// A server without the credential cache.
async fn server() -> TestApp {
    TestApp::start_with(AppOptions { auth_cache: false, ..AppOptions::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_sqlstates_of_server_bugs_return_500() {
    let app = server().await;
    let fixture = Fixture::new(&app).await;
    let db = admin(&app).await;
    prepare(&db).await;
    let mut wrong = Vec::new();
    for (state, points) in ERRORS.iter().flat_map(|state| GROUPS.map(|points| (state, points))) {
        fail(&db, points, state, 100_000).await;
        for &point in points {
            let reply = fixture.send(point, &format!("{state}-{point:?}")).await;
            let code = reply["code"].as_str().unwrap_or_default().to_owned();
            let by_table = sqlstate::classify_state(state).code;
            let codes = match (point, by_table) {
                (FailurePoint::LookUp, Code::DatabaseUnavailable) => vec![Code::AuthUnavailable, by_table],
                // A proxy can return these when the outcome of a COMMIT is unknown.
                (FailurePoint::SingleStatement, _) if state.starts_with("08") || *state == "40003" => {
                    vec![Code::OutcomeUnknown]
                }
                _ => vec![by_table],
            };
            let is_known =
                codes.iter().any(|known| known.as_str() == code && entry(*known).status.as_u16() == reply.status);
            let fits = match reply.status {
                500 => is_server_bug(state),
                503 => !is_server_bug(state) && reply.header("retry-after").is_some(),
                400 => matches!(*state, "22021" | "22P05"),
                _ => false,
            };
            if !(fits && is_known) {
                wrong.push(format!("{state} {point:?}: {} {code}", reply.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // After the database recovers, every request succeeds.
    sqlx::query("DELETE FROM failure").execute(&db).await.unwrap();
    for point in failure_points() {
        let reply = fixture.send(point, "afterwards").await;
        assert!(reply.status < 300, "{point:?}: {}", reply.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retryable_errors_are_retried_once_and_the_write_takes_effect_once() {
    let app = server().await;
    let fixture = Fixture::new(&app).await;
    let db = admin(&app).await;
    prepare(&db).await;
    let mut wrong = Vec::new();
    let curable = ERRORS.iter().filter(|state| sqlstate::classify_state(state).retry);
    let mut edits = 0;
    for state in curable {
        for point in failure_points() {
            // The outcome of a COMMIT is unknown after these, so they are not retried.
            if point == FailurePoint::SingleStatement && state.starts_with("08") {
                continue;
            }
            fail(&db, &[point], state, 1).await;
            let reply = fixture.send(point, &format!("{state}-{point:?}")).await;
            let is_edit = matches!(point, FailurePoint::Write | FailurePoint::WriteWithKey);
            edits += i64::from(reply.status == 200 && is_edit);
            if reply.status >= 300 {
                wrong.push(format!("{state} {point:?}: {} {}", reply.status, reply["code"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(edits > 20, "{edits}");
    let version: i64 = sqlx::query_scalar("SELECT version FROM projects").fetch_one(&db).await.unwrap();
    assert_eq!(version, edits + 1, "write executed twice");
}

/// The backend process IDs of the server's pool.
async fn backends(app: &TestApp) -> BTreeSet<i32> {
    let held = join_all((0..4).map(|_| app.db.acquire())).await;
    let pids = held.into_iter().map(async |connection| {
        let mut connection = connection.unwrap();
        // All connections are held, so that each one has a different backend.
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await.unwrap();
        (connection, pid)
    });
    join_all(pids).await.iter().map(|(_, pid)| *pid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_of_the_pool_are_replaced_after_a_read_only_error() {
    let app = server().await;
    let fixture = Fixture::new(&app).await;
    let db = admin(&app).await;
    prepare(&db).await;
    let before = backends(&app).await;
    assert!(before.len() > 1, "{before:?}");
    fail(&db, &[FailurePoint::Write], "25006", 1).await;
    fixture.send(FailurePoint::Write, "").await.ok();
    let after = backends(&app).await;
    assert!(before.is_disjoint(&after), "{before:?} and then {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_database_returns_503_and_recovers_immediately() {
    let app = server().await;
    let fixture = Fixture::new(&app).await;
    let options = app.db.connect_options();
    let db = admin(&app).await;
    let name = options.get_database().unwrap();
    let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&db).await.unwrap();
    // As in a failover: existing connections end, and new ones reach a read-only server.
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name LIKE 'cloudapi%'";
    sqlx::query(sql).execute(&db).await.unwrap();
    eventually("readyz reports a read-only database", async || {
        let ready = app.anonymous().get("/readyz").await;
        (ready.status == 503 && ready["checks"]["writes"].as_str().unwrap().starts_with("read-only: ")).then_some(())
    })
    .await;
    for point in [FailurePoint::Write, FailurePoint::WriteWithKey, FailurePoint::SingleStatement] {
        let reply = fixture.send(point, "read-only").await;
        assert!(reply.header("retry-after").is_some());
        assert!(
            ["database_unavailable", "auth_unavailable"].contains(&reply["code"].as_str().unwrap()),
            "{}",
            reply["code"]
        );
        assert_eq!(reply.status, 503, "{point:?}");
    }
    let sql = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&db).await.unwrap();
    // The pool's connections are still read-only. They are replaced promptly, not at their maximum age.
    let asked = Instant::now();
    eventually("all requests succeed", async || {
        for point in failure_points() {
            if fixture.send(point, "read-write").await.status >= 300 {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert!(asked.elapsed() < Duration::from_secs(10), "recovery took {:?}", asked.elapsed());
    eventually("ready", async || (app.anonymous().get("/readyz").await.status == 200).then_some(())).await;
}
