//! Keeps a node's lease and removes dead nodes: executes what `lease` and `janitor` decide.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{Acquire, PgConnection, postgres::PgListener};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    janitor::Janitor,
    lease::{Follower, Step},
    node::{self, Node},
};
use crate::{
    base::{clock::since_boot, heartbeat::Heartbeat},
    db,
};

/// Timeout of one step. Less than what remains of a lease after one failed renewal.
const STEP_TIME: Duration = Duration::from_secs(1);
/// Pause after a failed step.
const PAUSE: Duration = Duration::from_millis(100);
/// Interval between checks for dead nodes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the lease until the worker is stopped, then ends the lease and unregisters the node. Must be stopped after the
/// last request.
pub async fn run(node: Arc<Node>, heartbeat: Heartbeat) {
    heartbeat.stop().run_until_cancelled(Keeper::new(&node).keep(&heartbeat)).await;
    node.lease.give_up();
    // Without this, the next invalidation waits until the node's lease would have expired.
    let leaving = async { node::unregister(&mut *node.db.acquire_for_write().await?, node.id).await };
    if let Ok(Err(error)) = timeout(STEP_TIME, leaving).await {
        tracing::debug!(%error, "node not unregistered; other nodes will remove it");
    }
}

struct Keeper<'a> {
    node: &'a Node,
    follower: Follower,
    /// Connection that receives notifications of invalidations, if there is one.
    link: Option<PgListener>,
    held: bool,
}

impl<'a> Keeper<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, follower: Follower::new(node.timing), link: None, held: false }
    }

    async fn keep(mut self, heartbeat: &Heartbeat) {
        loop {
            heartbeat.progress();
            let step = self.follower.next(&self.node.lease, since_boot());
            if let Step::Rest { until } = step {
                self.rest(until).await;
            } else if let Err(error) = self.take(step).await {
                self.follower.failed();
                // After any error, use a new connection, which has no unread responses.
                self.link = None;
                self.tell(Some(&error));
                tokio::time::sleep(PAUSE).await;
            }
            self.tell(None);
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        let taken = timeout(STEP_TIME, self.take_slowly(step)).await;
        taken.map_err(|_| format!("no answer within {} s", STEP_TIME.as_secs()))?.map_err(|error| error.to_string())
    }

    async fn take_slowly(&mut self, step: Step) -> sqlx::Result<()> {
        let (id, lease) = (self.node.id, &*self.node.lease);
        let db = match &mut self.link {
            Some(link) => link,
            none => none.insert(listen(self.node).await?),
        };
        let db = db.acquire().await?;
        match step {
            Step::Register => {
                let server = node::register(db, id).await?;
                self.follower.registered(server);
            }
            Step::ReadClock => {
                let clock = node::clock(db).await?;
                self.follower.began(lease, clock);
                // A new epoch: everything known before it is void.
                self.node.tell_of_recall();
            }
            Step::ReadLog { after } => {
                let page = node::read_log(db, after).await?;
                let credentials = self.node.credentials.as_ref();
                self.follower.read(lease, &page, |subject, seq| {
                    if let Some(credentials) = credentials {
                        credentials.recall(subject, seq);
                    }
                });
                // Before the acknowledgment: event streams that depend on this send nothing more from here on.
                if !page.recalls.is_empty() {
                    self.node.tell_of_recall();
                }
            }
            Step::Acknowledge { up_to, server } => {
                let found = node::acknowledge(db, id, up_to, &server).await?;
                self.follower.acknowledged(lease, found, since_boot());
                self.node.notify_renewal();
            }
            Step::Rest { .. } => {}
        }
        Ok(())
    }

    /// Waits for the time or for a notification, whichever comes first.
    async fn rest(&mut self, until: Duration) {
        let Some(link) = &mut self.link else { return self.follower.woken() };
        match timeout(until.saturating_sub(since_boot()), link.try_recv()).await {
            Err(_) => {}
            Ok(Ok(Some(_))) => {
                // One read of the log covers all notifications so far.
                while link.next_buffered().is_some() {}
                self.follower.woken();
            }
            // The connection may have been lost before a notification arrived.
            Ok(Ok(None) | Err(_)) => {
                self.link = None;
                self.follower.woken();
            }
        }
    }

    /// Logs once each time the lease is acquired or lost.
    fn tell(&mut self, error: Option<&str>) {
        let holds = self.node.lease.remaining(since_boot()).is_some();
        match (self.held, holds) {
            (false, true) if self.node.credentials.is_none() => {
                tracing::info!(node_id = %self.node.id, "lease acquired");
            }
            (false, true) => tracing::info!(node_id = %self.node.id, "lease acquired; credential cache enabled"),
            (true, false) => {
                self.node.figures.lease_losses.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    error,
                    "lease lost: no heartbeat was committed in time; credentials are rejected with auth_unavailable until one is"
                );
            }
            _ => {}
        }
        self.held = holds;
    }
}

/// Opens a dedicated connection, because connections of the pool come and go.
async fn listen(node: &Node) -> sqlx::Result<PgListener> {
    let options = node.db.connect_options().as_ref().clone();
    let pool = db::pool_options().max_connections(1).idle_timeout(None).max_lifetime(None);
    let mut link = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
    link.ignore_pool_close_event(true);
    // A lost connection must be noticed, because notifications are missed meanwhile.
    link.eager_reconnect(false);
    link.listen(node::CHANNEL).await?;
    Ok(link)
}

/// Removes dead nodes until the worker is stopped. Every node does this, with or without a cache.
pub async fn clean(node: Arc<Node>, heartbeat: Heartbeat) {
    let mut janitor = Janitor::new(node.timing);
    while heartbeat.pause(LOOK_INTERVAL).await {
        let cleaned = async {
            let mut db = node.db.acquire_for_write().await?;
            look(&mut janitor, &mut db).await
        };
        // The next round repeats the check.
        if let Ok(Err(error)) = timeout(STEP_TIME, cleaned).await {
            node.db.note_sql(&error);
            tracing::debug!(%error, "check for dead nodes failed");
        }
    }
}

async fn look(janitor: &mut Janitor<Uuid>, db: &mut PgConnection) -> sqlx::Result<()> {
    let rows = node::stamps(db).await?;
    for (id, stamp) in janitor.look(since_boot(), &rows) {
        if node::count_out(db, id, stamp).await? {
            tracing::warn!(node_id = %id, "node removed: it sent no heartbeat; if it still runs, it registers again");
        }
    }
    Ok(())
}
