//! Keeps a node's lease, and counts out nodes that are gone: does what `lease` and `janitor` decide.

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

/// How long the database may take for one step. Less than what is left of a lease after one renewal has failed.
const STEP_TIME: Duration = Duration::from_secs(1);
/// How long to wait after a step that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// How often to look for nodes that are gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the lease until it must stop; then gives it up, and lets the others know. To be stopped after the last
/// request was served.
pub async fn run(node: Arc<Node>, heartbeat: Heartbeat) {
    heartbeat.stop().run_until_cancelled(Keeper::new(&node).keep(&heartbeat)).await;
    node.lease.give_up();
    // Else they wait for it once, until its lease would have ended.
    let leaving = async { node::unregister(&mut *node.db.acquire_for_write().await?, node.id).await };
    if let Ok(Err(error)) = timeout(STEP_TIME, leaving).await {
        tracing::debug!(%error, "the node could not sign off; the others will count it out");
    }
}

struct Keeper<'a> {
    node: &'a Node,
    follower: Follower,
    /// The connection that recalls are heard on, if there is one.
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
                // Whatever it was, another connection begins with no unread answers.
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
                // Nothing of what was known in the epoch before is known any more.
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
                // Before it is acknowledged: event streams that rest on it give nothing more out from here on.
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

    /// Waits for the time or for a recall, whichever comes first.
    async fn rest(&mut self, until: Duration) {
        let Some(link) = &mut self.link else { return self.follower.woken() };
        match timeout(until.saturating_sub(since_boot()), link.try_recv()).await {
            Err(_) => {}
            Ok(Ok(Some(_))) => {
                // One reading answers all that were told so far.
                while link.next_buffered().is_some() {}
                self.follower.woken();
            }
            // A connection that has ended may have ended before it could tell.
            Ok(Ok(None) | Err(_)) => {
                self.link = None;
                self.follower.woken();
            }
        }
    }

    /// Logs when the lease comes and goes, once each.
    fn tell(&mut self, error: Option<&str>) {
        let holds = self.node.lease.remaining(since_boot()).is_some();
        match (self.held, holds) {
            (false, true) if self.node.credentials.is_none() => {
                tracing::info!(node_id = %self.node.id, "lease acquired");
            }
            (false, true) => tracing::info!(node_id = %self.node.id, "credentials are answered from the cache"),
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

/// A connection of its own: those of the pool come and go.
async fn listen(node: &Node) -> sqlx::Result<PgListener> {
    let options = node.db.connect_options().as_ref().clone();
    let pool = db::pool_options().max_connections(1).idle_timeout(None).max_lifetime(None);
    let mut link = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
    link.ignore_pool_close_event(true);
    // A loss is to be noticed, because nothing is heard meanwhile.
    link.eager_reconnect(false);
    link.listen(node::CHANNEL).await?;
    Ok(link)
}

/// Counts out, until it must stop, the nodes that are gone. Every node does so, with a cache or without.
pub async fn clean(node: Arc<Node>, heartbeat: Heartbeat) {
    let mut janitor = Janitor::new(node.timing);
    while heartbeat.pause(LOOK_INTERVAL).await {
        let cleaned = async {
            let mut db = node.db.acquire_for_write().await?;
            look(&mut janitor, &mut db).await
        };
        // Another look will come.
        if let Ok(Err(error)) = timeout(STEP_TIME, cleaned).await {
            node.db.note_sql(&error);
            tracing::debug!(%error, "the nodes could not be looked at");
        }
    }
}

async fn look(janitor: &mut Janitor<Uuid>, db: &mut PgConnection) -> sqlx::Result<()> {
    let rows = node::stamps(db).await?;
    for (id, stamp) in janitor.look(since_boot(), &rows) {
        if node::count_out(db, id, stamp).await? {
            tracing::warn!(node_id = %id, "a node gave no sign of life and was counted out; it begins anew if it lives");
        }
    }
    Ok(())
}
