//! Measures the depth of the deployment's queues, independently of the workers that process them.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    base::{
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
    },
    metrics::queue_depth::INTERVAL,
    resources,
    state::App,
    webhooks,
};

/// Time limit for the measurement.
const LONGEST: Duration = Duration::from_secs(10);

/// Runs until shutdown.
pub async fn run(app: App, heartbeat: Heartbeat) {
    let mut is_well = true;
    while heartbeat.pause(interval(is_well)).await {
        // The tables may not exist before the server is ready.
        if !app.lifecycle.is_open() {
            continue;
        }
        let late =
            |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the measurement is retried"));
        let measured = timeout(LONGEST, measure(&app)).await.unwrap_or_else(late);
        if let (Err(error), true) = (&measured, is_well) {
            tracing::warn!(%error, "queue depth measurement failed; retrying");
        }
        is_well = measured.is_ok();
    }
}

/// Interval until the next measurement. Shorter after a failure, so that the metric is not outdated for long.
fn interval(is_well: bool) -> Duration {
    if is_well { INTERVAL } else { INTERVAL / 5 }
}

async fn measure(app: &App) -> Result<()> {
    let mut db = app.db.acquire().await?;
    app.cloud.figures.depth.set(resources::queue::depth(&mut db).await?);
    app.outbox.figures.depth.set(webhooks::queue::depth(&mut db).await?);
    Ok(())
}
