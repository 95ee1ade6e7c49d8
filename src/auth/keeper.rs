//! Keeps a node's lease, and counts out nodes that are gone: does what `lease` and `janitor` decide.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{Acquire, PgConnection, postgres::PgListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    cache::Credentials,
    janitor::Janitor,
    lease::{Follower, Step},
    node::{self, Node},
};
use crate::{base::clock::since_boot, db};

/// How long the database may take for one step. Less than what is left of a lease after one renewal has failed.
const STEP_TIME: Duration = Duration::from_secs(1);
/// How long to wait after a step that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// How often to look for nodes that are gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the lease until `stop`; then gives it up, and lets the others know. To be stopped after the last
/// request was served.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let Some(credentials) = &node.credentials else { return };
    stop.run_until_cancelled(Keeper::new(&node, credentials).keep()).await;
    credentials.lease().give_up();
    // Else they wait for it once, until its lease would have ended.
    let leaving = async { node::unregister(&mut *node.db.acquire().await?, node.id).await };
    if let Ok(Err(error)) = timeout(STEP_TIME, leaving).await {
        tracing::debug!(%error, "the node could not sign off; the others will count it out");
    }
}

struct Keeper<'a> {
    node: &'a Node,
    credentials: &'a Credentials,
    follower: Follower,
    /// The connection that recalls are heard on, if there is one.
    link: Option<PgListener>,
    held: bool,
}

impl<'a> Keeper<'a> {
    fn new(node: &'a Node, credentials: &'a Credentials) -> Self {
        Self { node, credentials, follower: Follower::new(node.timing), link: None, held: false }
    }

    async fn keep(mut self) {
        loop {
            let step = self.follower.next(self.credentials.lease(), since_boot());
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
        let (id, lease) = (self.node.id, self.credentials.lease());
        let db = match &mut self.link {
            Some(link) => link,
            none => none.insert(listen(self.node).await?),
        };
        let db = db.acquire().await?;
        match step {
            Step::Register => {
                node::register(db, id).await?;
                self.follower.registered();
            }
            Step::ReadClock => {
                let seq = node::clock(db).await?;
                self.follower.began(lease, seq);
                // Nothing of what was known in the epoch before is known any more.
                self.node.tell_of_recall();
            }
            Step::ReadLog { after } => {
                let page = node::read_log(db, after).await?;
                self.follower.read(lease, &page, |subject, seq| self.credentials.recall(subject, seq));
                // Before it is acknowledged: event streams that rest on it give nothing more out from here on.
                if !page.recalls.is_empty() {
                    self.node.tell_of_recall();
                }
            }
            Step::Acknowledge { up_to } => {
                let found = node::acknowledge(db, id, up_to).await?;
                self.follower.acknowledged(lease, found, since_boot());
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
        let holds = self.credentials.lease().remaining(since_boot()).is_some();
        match (self.held, holds) {
            (false, true) => tracing::info!(node_id = %self.node.id, "credentials are answered from the cache"),
            (true, false) => {
                self.node.figures.lease_losses.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    error,
                    "the lease was lost, so each request reads the database, until it answers in time again"
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

/// Counts out, until `stop`, the nodes that are gone. Every node does so, with a cache or without.
pub async fn clean(node: Arc<Node>, stop: CancellationToken) {
    let mut janitor = Janitor::new(node.timing);
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        let cleaned = async {
            let mut db = node.db.acquire().await?;
            look(&mut janitor, &mut db).await
        };
        // Another look will come.
        if let Ok(Err(error)) = timeout(STEP_TIME, cleaned).await {
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
