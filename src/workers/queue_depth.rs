//! Measures how much waits in the deployment's queues, apart from the workers that empty them.

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

/// How long the database may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Runs until it must stop.
pub async fn run(app: App, heartbeat: Heartbeat) {
    let mut is_well = true;
    while heartbeat.pause(interval(is_well)).await {
        // Before, there may be no tables.
        if !app.lifecycle.is_open() {
            continue;
        }
        let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"));
        let measured = timeout(LONGEST, measure(&app)).await.unwrap_or_else(late);
        if let (Err(error), true) = (&measured, is_well) {
            tracing::warn!(%error, "queue depth measurement failed; it is repeated");
        }
        is_well = measured.is_ok();
    }
}

/// After a failure sooner, so that an estimate does not stay for long.
fn interval(is_well: bool) -> Duration {
    if is_well { INTERVAL } else { INTERVAL / 5 }
}

async fn measure(app: &App) -> Result<()> {
    let mut db = app.db.acquire().await?;
    app.cloud.figures.depth.set(resources::queue::depth(&mut db).await?);
    app.outbox.figures.depth.set(webhooks::queue::depth(&mut db).await?);
    Ok(())
}
