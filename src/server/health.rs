//! Liveness probe (`/healthz`) and readiness probe (`/readyz`).

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
    base::{
        error::Result,
        runtime::{clock::since_boot, lifecycle::Phase},
    },
    db::{
        self,
        pool::write_health::{self, DatabaseState},
        sqlstate::WriteFailure,
    },
    http::{
        describe::{ApiResponse, ResponseShape},
        response::Json,
    },
    server::state::App,
};

/// Time limit for the database checks.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Result of the liveness probe.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Liveness {
    status: &'static str,
}

/// Liveness probe: responds if the process runs.
pub async fn live(_: Public) -> Result<Json<Liveness>> {
    Ok(Json(Liveness { status: "ok" }))
}

/// Result of the readiness probe.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Readiness {
    /// `ready`, or `unavailable` if this server should not get requests.
    status: &'static str,
    /// Results of the checks.
    checks: Checks,
}

/// Results of the checks: `ok`, or a description of the problem.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checks {
    /// Whether the server is serving requests, not starting or stopping.
    server: String,
    /// Whether the database responds.
    database: String,
    /// Whether the database accepts writes: it is not a standby, not read-only, has disk space, and its synchronous standby
    /// responds.
    writes: String,
    /// Whether usage is counted in a file, which survives the process. A problem does not change the status.
    journal: String,
    /// Whether credentials can be checked: PostgreSQL has committed a heartbeat of this server within 3 seconds, and the
    /// connection pool connects to the same PostgreSQL server. Otherwise, requests with a credential that is not cached
    /// get 503 `auth_unavailable`.
    lease: String,
    /// Whether the background workers run. Otherwise, lists those that do not. The status is 503 if requests need one of
    /// them.
    workers: String,
}

/// Readiness probe: checks whether this server can serve requests.
pub async fn ready(_: Public, State(app): State<App>) -> Result<Readiness> {
    let server = match app.lifecycle.phase() {
        Phase::Serving => "ok".to_owned(),
        Phase::Starting(why) => format!("starting: {why}"),
        Phase::Draining => "stopping".to_owned(),
    };
    let started = Instant::now();
    let probe = async { write_health::read_state(&mut *app.store.db.acquire().await?).await };
    let (probe, lease) = tokio::join!(tokio::time::timeout(PING_TIMEOUT, probe), lease(&app));
    let (database, state) = match probe {
        Ok(Ok(state)) => ("ok".to_owned(), Some(state)),
        Ok(Err(error)) => {
            app.store.db.handle_sql_error(&error);
            (format!("unreachable: {}", db::connect_error_kind(&error)), None)
        }
        Err(_) => match app.store.db.connect_error(started) {
            Some(fault) => (format!("unreachable: {}", db::connect_error_kind(&fault)), None),
            None => ("slow: no answer within 2 seconds".to_owned(), None),
        },
    };
    let writes = writes_check(&app, state);
    let workers = app.workers.check();
    let is_ready = server == "ok" && database == "ok" && writes == "ok" && lease.is_ok() && workers.is_ready;
    let status = if is_ready { "ready" } else { "unavailable" };
    // The shutdown was already logged.
    if !app.lifecycle.is_draining() && app.lifecycle.record_probe(is_ready) {
        match is_ready {
            true => tracing::info!("readiness probe succeeded"),
            false => tracing::warn!(server, database, "readiness probe failed"),
        }
    }
    let lease = lease.unwrap_or_else(|problem| problem).to_owned();
    let journal = app.meter.storage_error().unwrap_or_else(|| "ok".to_owned());
    let checks = Checks { server, database, writes, journal, lease, workers: workers.text };
    Ok(Readiness { status, checks })
}

/// Checks writes: the state that the database reports, otherwise the failure of the last write.
fn writes_check(app: &App, state: Option<DatabaseState>) -> String {
    let failing = app.store.db.writes().current_failure();
    match (state, failing) {
        (Some(DatabaseState { in_recovery: true, .. }), _) => {
            format!("read-only: the database at {} is a standby (in recovery)", app.store.db.host())
        }
        (Some(DatabaseState { read_only: true, .. }), _) => {
            format!("read-only: the database at {} has default_transaction_read_only on", app.store.db.host())
        }
        (Some(DatabaseState { waiting: waiting @ 1.., .. }), _) => format!(
            "waiting: {waiting} writes wait for a synchronous standby (SyncRep); check it and synchronous_standby_names"
        ),
        // The connections have been replaced since the failure.
        (Some(_), Some(WriteFailure::ReadOnly)) => "ok".to_owned(),
        (_, Some(failure)) => failure.describe(&app.store.db.host()),
        (Some(_), None) => "ok".to_owned(),
        (None, None) => "unknown: the database does not respond".to_owned(),
    }
}

/// Checks whether credentials can be authenticated.
async fn lease(app: &App) -> std::result::Result<&'static str, &'static str> {
    let is_starting = matches!(app.lifecycle.phase(), Phase::Starting(_));
    // A server that has just started waits for its first heartbeat.
    let is_checked =
        !is_starting && matches!(tokio::time::timeout(PING_TIMEOUT, app.node.check_pool()).await, Ok(Ok(())));
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

impl ApiResponse for Readiness {
    const SHAPE: ResponseShape =
        ResponseShape { description: "The server is ready.", ..<Json<Self> as ApiResponse>::SHAPE };
}
