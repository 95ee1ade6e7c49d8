//! Whether the server lives (`/healthz`) and whether requests should be sent to it (`/readyz`).

use std::time::{Duration, Instant};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    auth::grant::Public,
    base::{clock::since_boot, error::Result, lifecycle::Phase},
    db::{
        self,
        sqlstate::WriteFailure,
        writes::{self, Probe},
    },
    http::{
        describe::{Answer, AnswerShape},
        reply::Json,
    },
    state::App,
};

/// How long the database may take to answer.
const PING_TIME: Duration = Duration::from_secs(2);

/// A sign of life.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Liveness {
    status: &'static str,
}

/// The process lives and answers.
pub async fn live(_: Public) -> Result<Json<Liveness>> {
    Ok(Json(Liveness { status: "ok" }))
}

/// Whether the server is ready, and what was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Readiness {
    /// `ready`, or `unavailable` when requests should go elsewhere.
    status: &'static str,
    /// What was looked at.
    checks: Checks,
}

/// Each is `ok`, or says what is wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checks {
    /// Whether the server is serving, rather than starting or stopping.
    server: String,
    /// Whether the database answers.
    database: String,
    /// Whether the database takes writes: it is no standby, not read-only, has space on its disk, and its synchronous
    /// standby answers.
    writes: String,
    /// Whether usage is counted in a file, which outlives the process. Where it is not, requests are served all the same.
    journal: String,
    /// Whether credentials can be checked: PostgreSQL has committed a heartbeat of this server within 3 seconds, and the
    /// connection pool leads to the same PostgreSQL server. If not, requests with a credential that is not cached are
    /// answered 503 `auth_unavailable`.
    lease: String,
    /// Whether the background workers run. Otherwise, which do not; the status is 503 if requests need one of them.
    workers: String,
}

/// Whether requests should be sent here.
pub async fn ready(_: Public, State(app): State<App>) -> Result<Readiness> {
    let server = match app.lifecycle.phase() {
        Phase::Serving => "ok".to_owned(),
        Phase::Starting(why) => format!("starting: {why}"),
        Phase::Draining => "stopping".to_owned(),
    };
    let began = Instant::now();
    let asked = async { writes::state(&mut *app.db.acquire().await?).await };
    let (asked, lease) = tokio::join!(tokio::time::timeout(PING_TIME, asked), lease(&app));
    let (database, state) = match asked {
        Ok(Ok(state)) => ("ok".to_owned(), Some(state)),
        Ok(Err(error)) => {
            app.db.note_sql(&error);
            (format!("unreachable: {}", db::kind(&error)), None)
        }
        Err(_) => match app.db.connect_fault(began) {
            Some(fault) => (format!("unreachable: {}", db::kind(&fault)), None),
            None => ("slow: no answer within 2 seconds".to_owned(), None),
        },
    };
    let writes = writes_check(&app, state);
    let workers = app.workers.check();
    let all_ok = server == "ok" && database == "ok" && writes == "ok" && lease.is_ok() && workers.serves;
    let status = if all_ok { "ready" } else { "unavailable" };
    // That it stops was logged when it was told to.
    if !app.lifecycle.is_draining() && app.lifecycle.note_probe(all_ok) {
        match all_ok {
            true => tracing::info!("readiness probe succeeded"),
            false => tracing::warn!(server, database, "readiness probe failed"),
        }
    }
    let lease = lease.unwrap_or_else(|problem| problem).to_owned();
    let journal = app.meter.trouble().unwrap_or_else(|| "ok".to_owned());
    let checks = Checks { server, database, writes, journal, lease, workers: workers.text };
    Ok(Readiness { status, checks })
}

/// What stands in the way of writes: what the database says of itself, else how the last write failed.
fn writes_check(app: &App, state: Option<Probe>) -> String {
    let failing = app.db.writes().failing();
    match (state, failing) {
        (Some(Probe { in_recovery: true, .. }), _) => {
            format!("read-only: the database at {} is a standby (in recovery)", app.db.host())
        }
        (Some(Probe { read_only: true, .. }), _) => {
            format!("read-only: the database at {} has default_transaction_read_only on", app.db.host())
        }
        (Some(Probe { waiting: waiting @ 1.., .. }), _) => format!(
            "waiting: {waiting} writes wait for a synchronous standby (SyncRep); check it and synchronous_standby_names"
        ),
        // Its connections have been replaced since.
        (Some(_), Some(WriteFailure::ReadOnly)) => "ok".to_owned(),
        (_, Some(failure)) => failure.describe(&app.db.host()),
        (Some(_), None) => "ok".to_owned(),
        (None, None) => "unknown: the database does not answer".to_owned(),
    }
}

/// Whether credentials can be checked, and how or why not.
async fn lease(app: &App) -> std::result::Result<&'static str, &'static str> {
    let is_starting = matches!(app.lifecycle.phase(), Phase::Starting(_));
    // A server that has just started waits for its first heartbeat here.
    let is_checked = !is_starting && matches!(tokio::time::timeout(PING_TIME, app.node.check_pool()).await, Ok(Ok(())));
    match (is_checked, app.node.lease.remaining(since_boot())) {
        (true, _) if app.node.credentials.is_none() => Ok("off: each request reads the database"),
        (true, _) => Ok("ok"),
        (false, None) => Err(
            "not held: PostgreSQL has not committed a heartbeat of this server in the last 3 seconds, so credentials cannot be checked",
        ),
        (false, Some(_)) => Err(
            "no look-up: the connection pool does not reach the PostgreSQL server that commits this server's heartbeats, so credentials that are not cached cannot be checked",
        ),
    }
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let ready = self.status == "ready";
        let mut response = Json(self).into_response();
        if !ready {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

impl Answer for Readiness {
    const SHAPE: AnswerShape = AnswerShape { description: "Ready.", ..<Json<Self> as Answer>::SHAPE };
}
