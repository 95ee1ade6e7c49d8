//! Keeps a node's lease and removes dead nodes: executes what `lease` and `janitor` decide.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{Acquire, postgres::PgListener};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    janitor::Janitor,
    lease::{Follower, LeaseStep, LogPage},
    node::{self, Node, NodeStamps, Renewal},
};
use crate::{
    auth::revocation::cache::Credentials,
    base::{
        identity::subject::Subject,
        runtime::{clock::since_boot, heartbeat::Heartbeat},
    },
    db::{self, pulse},
};

/// Timeout of one step. Less than what remains of a lease after one failed renewal.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed step.
const PAUSE: Duration = Duration::from_millis(100);
/// Time after a check for dead nodes from which on the next one does not wait for a renewal. Longer than the interval of
/// renewals.
const CHECK_INTERVAL: Duration = Duration::from_millis(1500);

/// Keeps the lease until the worker is stopped, then ends the lease and unregisters the node. Must be stopped after the
/// last request.
pub async fn run(node: Arc<Node>, heartbeat: Heartbeat) {
    heartbeat.stop().run_until_cancelled(Keeper::new(&node).run(&heartbeat)).await;
    node.lease.release();
    // Without this, the next invalidation waits until the node's lease would have expired.
    let leaving = async { node::unregister(&mut *node.db.acquire_for_write().await?, node.id).await };
    if let Ok(Err(error)) = timeout(STEP_TIMEOUT, leaving).await {
        tracing::debug!(%error, "node not unregistered; other nodes will remove it");
    }
}

struct Keeper<'a> {
    node: &'a Node,
    follower: Follower,
    /// Connection that receives notifications of invalidations, if there is one.
    listener: Option<PgListener>,
    is_held: bool,
}

impl<'a> Keeper<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, follower: Follower::new(node.timing), listener: None, is_held: false }
    }

    async fn run(mut self, heartbeat: &Heartbeat) {
        loop {
            heartbeat.progress();
            let step = self.follower.next(&self.node.lease, since_boot());
            if let LeaseStep::Wait { until } = step {
                self.wait(until).await;
            } else if let Err(error) = self.run_step(step).await {
                self.follower.on_failed();
                // After any error, use a new connection, which has no unread responses.
                self.listener = None;
                self.log_transition(Some(&error));
                tokio::time::sleep(PAUSE).await;
            }
            self.log_transition(None);
        }
    }

    async fn run_step(&mut self, step: LeaseStep) -> Result<(), String> {
        let result = timeout(STEP_TIMEOUT, self.execute_step(step)).await;
        result.map_err(|_| format!("no answer within {} s", STEP_TIMEOUT.as_secs()))?.map_err(|error| error.to_string())
    }

    async fn execute_step(&mut self, step: LeaseStep) -> sqlx::Result<()> {
        let (id, lease) = (self.node.id, &*self.node.lease);
        let db = match &mut self.listener {
            Some(listener) => listener,
            none => none.insert(listen(self.node).await?),
        };
        let db = db.acquire().await?;
        match step {
            LeaseStep::Register => {
                let server = node::register(db, id).await?;
                self.follower.on_registered(server);
            }
            LeaseStep::ReadClock => {
                let clock = node::clock(db).await?;
                self.follower.on_clock_read(lease, clock);
                // A new epoch: everything known before it is void.
                self.node.notify_invalidation();
            }
            LeaseStep::Renew { applied, server } => {
                let Renewal { page, found, nodes } = node::renew(db, id, applied, &server).await?;
                let credentials = self.node.credentials.as_ref();
                self.follower.on_renewed(lease, &page, found, since_boot(), invalidate_in(credentials));
                self.on_log_read(&page);
                self.node.stamps.send_replace(Some(nodes));
                if found {
                    self.on_heartbeat();
                }
            }
            LeaseStep::ReadLog { after } => {
                let page = node::read_log(db, after).await?;
                self.follower.on_log_read(lease, &page, invalidate_in(self.node.credentials.as_ref()));
                self.on_log_read(&page);
            }
            LeaseStep::Acknowledge { up_to, server } => {
                let found = node::acknowledge(db, id, up_to, &server).await?;
                self.follower.on_acknowledged(lease, found, since_boot());
                self.on_heartbeat();
            }
            LeaseStep::Wait { .. } => {}
        }
        Ok(())
    }

    fn on_log_read(&self, page: &LogPage) {
        // Before the acknowledgment: event streams that depend on this send nothing more from here on.
        if !page.invalidations.is_empty() {
            self.node.notify_invalidation();
        }
    }

    fn on_heartbeat(&self) {
        self.node.db.writes().record_commit();
        self.node.notify_renewal();
    }

    /// Waits for the time or for a notification, whichever comes first. A notification about work is for the pulse.
    async fn wait(&mut self, until: Duration) {
        let Some(listener) = &mut self.listener else { return self.follower.wake() };
        let received = timeout(until.saturating_sub(since_boot()), listener.try_recv()).await;
        // The connection may have been lost before a notification arrived.
        let mut is_invalidation = matches!(received, Ok(Ok(None) | Err(_)));
        if is_invalidation {
            self.listener = None;
        } else if let Ok(Ok(Some(first))) = received {
            // One read covers all notifications so far.
            let others = std::iter::from_fn(|| listener.next_buffered());
            for notification in std::iter::once(first).chain(others) {
                match notification.channel() {
                    pulse::CHANNEL => self.node.db.pulse().request(),
                    _ => is_invalidation = true,
                }
            }
        }
        if is_invalidation {
            self.follower.wake();
        }
    }

    /// Logs once each time the lease is acquired or lost.
    fn log_transition(&mut self, error: Option<&str>) {
        let is_held_now = self.node.lease.remaining(since_boot()).is_some();
        match (self.is_held, is_held_now) {
            (false, true) if self.node.credentials.is_none() => {
                tracing::info!(node_id = %self.node.id, "lease acquired");
            }
            (false, true) => tracing::info!(node_id = %self.node.id, "lease acquired; credential cache enabled"),
            (true, false) => {
                self.node.metrics.lease_losses.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    error,
                    "lease lost: no heartbeat was committed in time; credentials are rejected with auth_unavailable until one is"
                );
            }
            _ => {}
        }
        self.is_held = is_held_now;
    }
}

/// Invalidates the cache entries of a subject, if there is a cache.
fn invalidate_in(credentials: Option<&Credentials>) -> impl FnMut(Subject, i64) {
    move |subject, seq| {
        if let Some(credentials) = credentials {
            credentials.invalidate(subject, seq);
        }
    }
}

/// Opens a dedicated connection, because connections of the pool come and go.
async fn listen(node: &Node) -> sqlx::Result<PgListener> {
    let options = node.db.connect_options().as_ref().clone();
    let pool = db::pool_options().max_connections(1).idle_timeout(None).max_lifetime(None);
    let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
    listener.ignore_pool_close_event(true);
    // A lost connection must be noticed, because notifications are missed meanwhile.
    listener.eager_reconnect(false);
    listener.listen_all([node::CHANNEL, pulse::CHANNEL]).await?;
    Ok(listener)
}

/// Removes dead nodes until the worker is stopped. Every node does this, with or without a cache.
pub async fn run_janitor(node: Arc<Node>, heartbeat: Heartbeat) {
    let mut janitor = Janitor::new(node.timing);
    let mut renewals = node.stamps.subscribe();
    loop {
        let mut is_read = false;
        let renewed = async { is_read = timeout(CHECK_INTERVAL, renewals.changed()).await.is_ok() };
        if !heartbeat.pause_until(renewed).await {
            return;
        }
        let read = if is_read { renewals.borrow_and_update().clone() } else { None };
        // The next round repeats the check.
        if let Ok(Err(error)) = timeout(STEP_TIMEOUT, remove_dead_nodes(&node, &mut janitor, read)).await {
            node.db.handle_sql_error(&error);
            tracing::debug!(%error, "check for dead nodes failed");
        }
    }
}

/// Reads the stamps if no renewal has read them: a node that acknowledges many invalidations renews its lease with that.
async fn remove_dead_nodes(node: &Node, janitor: &mut Janitor<Uuid>, read: Option<NodeStamps>) -> sqlx::Result<()> {
    let NodeStamps { server, stamps } = match read {
        Some(read) => read,
        None => node::stamps(&mut *node.db.acquire().await?).await?,
    };
    for (id, stamp) in janitor.find_dead(since_boot(), &stamps) {
        if node::remove_if_dead(&mut *node.db.acquire_for_write().await?, id, stamp, &server).await? {
            tracing::warn!(node_id = %id, "node removed: it sent no heartbeat; if it still runs, it registers again");
        }
    }
    Ok(())
}
