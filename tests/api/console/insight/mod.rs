//! Usage, audit log, settings and the ways to get around.

mod audit;
mod settings;
mod usage;
mod ways;

use crate::support::{TestApp, eventually, trail::staged};

/// Waits until all entries of the trail can be read.
pub async fn sealed(app: &TestApp) {
    eventually("everything is sealed", async || (staged(&app.db).await == 0).then_some(())).await;
}
