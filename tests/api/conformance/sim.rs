//! The simulated provider passes the same conformance tests.

use std::{sync::Arc, time::Duration};

use cloudapi::resources::drivers::sim::{Sim, SimSettings};
use uuid::Uuid;

use super::{Subject, conformance};
use crate::support::TestApp;

conformance!(start);

async fn start() -> Option<Subject> {
    let app = TestApp::start().await;
    // Minimal latency and failing calls.
    let settings =
        SimSettings { latency_min_ms: 0, latency_max_ms: 20, failures_per_mille: 50, ..SimSettings::default() };
    let driver = |name: &str| Arc::new(Sim::new(name.into(), settings.clone(), app.db.clone().into()));
    let db = app.db.clone();
    Some(Subject {
        driver: driver("sim"),
        other_driver: driver("sibling"),
        deployment: Uuid::new_v4(),
        sizes: ["small".into(), "large".into()],
        image: "debian-12".into(),
        supports_client_tokens: true,
        octet: 231,
        // A page holds 100.
        many: 103,
        timeout: Duration::from_secs(10),
        create_untagged_volume: Box::new(move || {
            let db = db.clone();
            Box::pin(async move {
                sqlx::query_scalar(
                    "INSERT INTO sim_objects (provider, reference, kind, name, spec, ready_at)
                     VALUES ('sim', 'vol-stray', 'storage.volume', 'stray', '{\"size_gib\": 1}', now()) RETURNING reference",
                )
                .fetch_one(&db)
                .await
                .unwrap()
            })
        }),
        _keep: Box::new(app),
    })
}
