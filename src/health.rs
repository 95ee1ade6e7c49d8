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
    db,
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
pub struct Alive {
    status: &'static str,
}

/// The process lives and answers.
pub async fn live(_: Public) -> Result<Json<Alive>> {
    Ok(Json(Alive { status: "ok" }))
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
    /// Whether credentials are answered from the cache. Where they are not, requests are served all the same, and
    /// read the database each.
    lease: String,
}

/// Whether requests should be sent here.
pub async fn ready(_: Public, State(app): State<App>) -> Result<Readiness> {
    let server = match app.lifecycle.phase() {
        Phase::Serving => "ok".to_owned(),
        Phase::Starting(why) => format!("starting: {why}"),
        Phase::Draining => "stopping".to_owned(),
    };
    let began = Instant::now();
    let ping = async { db::ping(&mut *app.db.acquire().await?).await };
    let database = match tokio::time::timeout(PING_TIME, ping).await {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(error)) => format!("unreachable: {}", db::kind(&error)),
        Err(_) => match app.db.connect_fault(began) {
            Some(fault) => format!("unreachable: {}", db::kind(&fault)),
            None => "slow: no answer within 2 seconds".to_owned(),
        },
    };
    let lease = app.node.credentials.as_ref().map(|credentials| credentials.lease().remaining(since_boot()));
    let lease = match lease {
        Some(Some(_)) => "ok",
        Some(None) => "not held: each request reads the database until it is renewed",
        None => "off: each request reads the database",
    };
    let all_ok = server == "ok" && database == "ok";
    let status = if all_ok { "ready" } else { "unavailable" };
    // That it stops was logged when it was told to.
    if !app.lifecycle.is_draining() && app.lifecycle.note_probe(all_ok) {
        match all_ok {
            true => tracing::info!("readiness probe succeeded"),
            false => tracing::warn!(server, database, "readiness probe failed"),
        }
    }
    Ok(Readiness { status, checks: Checks { server, database, lease: lease.to_owned() } })
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
