//! Measures the depth of the deployment's queues, independently of the workers that process them.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    api::webhooks,
    base::{
        error::{Code, Error, Result},
        runtime::heartbeat::Heartbeat,
    },
    db::pulse::Work,
    metrics::queue_depth::INTERVAL,
    resources,
    server::state::App,
};

/// Time limit for the measurement.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until shutdown.
pub async fn run(app: App, heartbeat: Heartbeat) {
    let mut is_healthy = true;
    while heartbeat.pause(interval(is_healthy)).await {
        // The tables may not exist before the server is ready.
        if !app.lifecycle.has_started() {
            continue;
        }
        let on_timeout =
            |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the measurement is retried"));
        let measured = timeout(MEASURE_TIMEOUT, measure(&app)).await.unwrap_or_else(on_timeout);
        if let (Err(error), true) = (&measured, is_healthy) {
            tracing::warn!(%error, "queue depth measurement failed; retrying");
        }
        is_healthy = measured.is_ok();
    }
}

/// Interval until the next measurement. Shorter after a failure, so that the metric is not outdated for long.
fn interval(is_healthy: bool) -> Duration {
    if is_healthy { INTERVAL } else { INTERVAL / 5 }
}

async fn measure(app: &App) -> Result<()> {
    let mut db = app.store.db.acquire().await?;
    let (pulse, operations, deliveries) =
        (app.store.db.pulse(), &app.resources.cloud.metrics.depth, &app.webhooks.outbox.metrics.depth);
    // A queue that was empty stays so until the pulse shows an entry.
    if pulse.is_planned(Work::Operations) || !operations.is_empty() {
        operations.set(resources::store::queue::depth(&mut db).await?);
    }
    if pulse.is_planned(Work::Deliveries) || !deliveries.is_empty() {
        deliveries.set(webhooks::delivery::queue::depth(&mut db).await?);
    }
    Ok(())
}
