//! Puts the layers in order, serves connections, and drains them when told to stop.

mod connection;
pub mod files;
mod framing;
pub mod metrics;
mod patient;
mod progress;
mod stop;
pub mod tls;
mod unread;

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Layer;

pub use connection::Listener;
pub use stop::Stop;

use crate::{
    audit::{retention, sealer::Sealer},
    auth::{keeper, node},
    base::{error::Result, lifecycle::Phase},
    db::deletions,
    events::tail,
    http::{
        cors::WithCors,
        edge::{Guard, GuardLayer},
        headers::{Headers, HeadersLayer},
    },
    resources::{self, engine, expiry, reconcile},
    routes,
    state::App,
    tx::idempotency,
    usage::{
        close, flush,
        record::{Record, RecordLayer},
    },
    webhooks::{queue, worker},
};
use connection::Connections;

/// How long requests under way have once the server closes.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// How often to forget what is not needed any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How often refusals are written to the audit trail.
const TALLY_INTERVAL: Duration = Duration::from_secs(60);
/// How often to look whose minute of reading it is over.
const READS_INTERVAL: Duration = Duration::from_secs(2);
/// How long a last write of what was counted may take; and when there is a hurry.
const FLUSH_TIME: Duration = Duration::from_secs(10);
const HURRIED_FLUSH_TIME: Duration = Duration::from_secs(1);

/// All that a request passes.
pub type Layers = Record<Headers<WithCors<Guard<Router>>>>;

/// Every layer around `router`, the outermost first. Around the router as a whole: `Router::layer` would box each of
/// them for each route.
pub fn layers(app: &App, router: Router) -> Layers {
    let layers =
        (RecordLayer::new(app), HeadersLayer(app.edge.clone()), app.edge.cors.clone(), GuardLayer(app.edge.clone()));
    layers.layer(router)
}

/// Serves `listener` until `stop`, then lets requests under way finish, and writes what was counted.
pub async fn serve(app: App, listener: impl Into<Listener>, stop: Stop) {
    let listener = listener.into();
    let closing = close::run(app.db.clone(), app.clock.clone(), app.usage_days_kept, stop.closing.clone());
    let closer = tokio::spawn(closing);
    let sweeper = tokio::spawn(sweep(app.clone(), stop.closing.clone()));
    let deliverer = tokio::spawn(worker::run(app.clone(), stop.closing.clone(), stop.now.clone()));
    let engine = tokio::spawn(engine::run(app.clone(), stop.closing.clone(), stop.now.clone()));
    let reconciler = tokio::spawn(reconcile::run(app.clone(), stop.closing.clone()));
    let expirer = tokio::spawn(expiry::run(app.clone(), stop.closing.clone()));
    let cleaner = tokio::spawn(keeper::clean(Arc::clone(&app.node), stop.closing.clone()));
    // Requests under way need the lease, and are counted, to the end.
    let served_out = CancellationToken::new();
    let (meter, quota) = (Arc::clone(&app.meter), Arc::clone(&app.quota));
    let flushing = flush::run(meter, quota, app.db.clone(), app.clock.clone(), served_out.clone());
    let flusher = tokio::spawn(flushing);
    let keeper = tokio::spawn(keeper::run(Arc::clone(&app.node), served_out.clone()));
    let tail = tokio::spawn(tail::run(app.clone(), stop.closing.clone()));
    let tallier = tokio::spawn(tally(app.clone(), served_out.clone()));
    let reads = tokio::spawn(tell_of_reads(app.clone(), served_out.clone()));
    let (signer, months, stopping) = (Arc::clone(&app.signer), app.audit_months_kept, stop.closing.clone());
    let trimmer = tokio::spawn(retention::run(app.db.clone(), app.clock.clone(), signer, months, stopping));
    // And what they and the last of those staged is sealed.
    let staged_out = CancellationToken::new();
    let sealer = Sealer::new(&app.db, app.clock.clone(), Arc::clone(&app.signer), Arc::clone(&app.sealing));
    let sealer = tokio::spawn(sealer.run(Arc::clone(&app.lifecycle), staged_out.clone()));
    let connections = Connections::new(
        layers(&app, routes::router(app.clone())),
        app.edge.limits,
        stop.clone(),
        app.edge.connections.clone(),
    );
    let telling = async {
        stop.told.cancelled().await;
        app.lifecycle.enter(Phase::Draining);
    };
    tokio::join!(connections.accept_from(&listener), telling);
    drop(listener);
    // Streams are told to go on elsewhere, and end.
    app.hub.closing.cancel();

    let drained = async {
        connections.open.close();
        connections.open.wait().await;
        // Writes whose client has gone.
        app.edge.tracker.close();
        app.edge.tracker.wait().await;
    };
    if let Some(Err(_)) = stop.now.run_until_cancelled(timeout(DRAIN_TIME, drained)).await {
        tracing::warn!("requests were still under way after {} s; they are cut off", DRAIN_TIME.as_secs());
        stop.now.cancel();
    }
    let flushed = async {
        served_out.cancel();
        let _ = tokio::join!(
            flusher, closer, sweeper, deliverer, engine, reconciler, expirer, cleaner, keeper, tail, tallier, reads,
            trimmer
        );
        flush::close(&app.meter, &app.db, &app.clock).await;
        staged_out.cancel();
        let _ = sealer.await;
        app.db.close().await;
    };
    let flush_time = if stop.now.is_cancelled() { HURRIED_FLUSH_TIME } else { FLUSH_TIME };
    if timeout(flush_time, flushed).await.is_err() {
        tracing::warn!(
            "the database did not answer in time; the usage counted last is written when this server starts again"
        );
    }
}

/// Writes what was refused to the audit trail, each minute and a last time at `stop`.
async fn tally(app: App, stop: CancellationToken) {
    loop {
        let goes_on = stop.run_until_cancelled(tokio::time::sleep(TALLY_INTERVAL)).await.is_some();
        if let Err(error) = app.refusals.flush(&app.db, &app.clock).await {
            tracing::warn!(%error, "refusals could not be written to the audit trail; they are kept and tried again in a minute");
        }
        if !goes_on {
            return;
        }
    }
}

/// Tells the audit trail who has read it in minutes that are over, and a last time at `stop`.
async fn tell_of_reads(app: App, stop: CancellationToken) {
    let mut is_last = false;
    while !is_last {
        is_last = stop.run_until_cancelled(tokio::time::sleep(READS_INTERVAL)).await.is_none();
        if let Err(error) = app.reads.flush(&app.db, &app.clock, is_last).await {
            tracing::warn!(%error, "reads of the audit trail could not be written to it; they are kept and tried again");
        }
    }
}

/// Forgets whom no rate limit holds back any more, and answers that nobody may ask for again.
async fn sweep(app: App, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_some() {
        app.limits.sweep();
        if let Some(credentials) = &app.node.credentials {
            credentials.sweep();
        }
        if let Err(error) = forget_old(&app).await {
            tracing::warn!(%error, "old records could not be removed; trying again in a minute");
        }
    }
}

async fn forget_old(app: &App) -> Result<()> {
    let mut db = app.db.acquire().await?;
    node::forget_old(&mut db).await?;
    // In batches, so that no transaction is long.
    while idempotency::forget_old(&mut db, app.clock.now()).await? > 0 {}
    while deletions::forget_old(&mut db, app.clock.now()).await? > 0 {}
    while queue::sweep(&mut db, &app.outbox.pace).await? > 0 {}
    let until = app.clock.now().minus(app.cloud.pace.kept_for);
    while resources::queue::forget_old(&mut db, until).await? > 0 {}
    Ok(())
}
