//! Follows sealed entries for all readers of a node: one query for any number of readers, and each event is formatted
//! once.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use futures_util::future::join;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    hub::Frame,
    model::Event,
    repo::{self, TailedEntry},
};
use crate::{
    api::events::EventContext,
    auth::revocation::node,
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{AuditId, EventId},
        runtime::heartbeat::Heartbeat,
    },
};

/// Number of entries per query.
const BATCH_SIZE: i64 = 1_000;
/// Deadline for a database read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum wait between polls without a notification from the sealer.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Interval at which invalidations by other servers are polled if the node has no credential cache.
const INVALIDATION_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Delay after a failed read.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Runs until it is stopped. Does not query the database while there are no readers.
pub async fn run(context: Arc<EventContext>, heartbeat: Heartbeat) {
    let checked = Arc::clone(&context);
    let following = async {
        let mut tail = Tail {
            sealed: context.sealing.last_sealed.subscribe(),
            invalidation_seq: None,
            is_failing: false,
            context,
        };
        loop {
            heartbeat.wait_for(tail.context.hub.wait_for_reader()).await;
            tail.follow(&heartbeat).await;
        }
    };
    let checking = check_readers(&checked);
    heartbeat.stop().run_until_cancelled(join(following, checking)).await;
}

/// Notifies readers whose credential has expired, and all if the lease was lost. In one place for all readers, because
/// thousands of timers cost more.
async fn check_readers(context: &EventContext) {
    let options = context.hub.options;
    loop {
        sleep(options.check_interval.min(options.heartbeat)).await;
        context.node.notify_expiry(context.clock.now_non_decreasing());
    }
}

struct Tail {
    context: Arc<EventContext>,
    /// Last ID sealed by any server, as known to the sealer.
    sealed: watch::Receiver<AuditId>,
    /// Last invalidation that was seen, if the node has no credential cache.
    invalidation_seq: Option<i64>,
    is_failing: bool,
}

impl Tail {
    /// Publishes events as long as there are readers.
    async fn follow(&mut self, heartbeat: &Heartbeat) {
        while let Some(position) = self.context.hub.position() {
            heartbeat.progress();
            self.sealed.mark_unchanged();
            match timeout(READ_TIMEOUT, self.read_batch(position)).await.unwrap_or_else(|_| Err(timed_out())) {
                Ok(is_full) => {
                    self.is_failing = false;
                    if !is_full {
                        let has_no_cache = self.context.node.credentials.is_none();
                        let max_wait = if has_no_cache { INVALIDATION_POLL_INTERVAL } else { MAX_WAIT };
                        let _ = timeout(max_wait, self.sealed.changed()).await;
                    }
                }
                Err(error) => {
                    self.context.db.handle_error(&error);
                    if !self.is_failing {
                        tracing::warn!(%error, "event tail failed; streams wait until it recovers");
                    }
                    self.is_failing = true;
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Publishes the events after `position`. Returns whether more may be available immediately.
    async fn read_batch(&mut self, position: EventId) -> Result<bool> {
        let context = &self.context;
        let mut db = context.db.acquire().await?;
        if context.node.credentials.is_none() {
            // Without a cache, no lease is held, and nothing else detects invalidations by other servers.
            let invalidation_seq = Some(node::clock(&mut db).await?.seq);
            if invalidation_seq != std::mem::replace(&mut self.invalidation_seq, invalidation_seq) {
                context.node.notify_invalidation();
            }
        }
        let rows = repo::entries_after(&mut db, position, BATCH_SIZE).await?;
        drop(db);
        let Some(TailedEntry { id: last, .. }) = rows.last() else { return Ok(false) };
        let (last, is_full) = (*last, rows.len() as i64 == BATCH_SIZE);
        let events = rows.into_iter().filter_map(|row| Some((row.project_id, (row.id, row.payload?))));
        context.hub.publish((position, last), events, |(id, payload)| frame(id, &payload, &context.public_url));
        Ok(is_full)
    }
}

fn timed_out() -> Error {
    Error::new(Code::Timeout, "The database did not respond in time; retrying")
}

/// Formats an event for the stream. Returns `None`, and logs an error, if the entry cannot be parsed.
pub fn frame(id: EventId, payload: &[u8], public_url: &str) -> Option<Frame> {
    match Event::from_payload(payload, public_url) {
        Ok(event) => {
            let bytes = Bytes::from(format!("id: {id}\nevent: {}\ndata: {}\n\n", event.kind, event.to_json()));
            Some(Frame { id, action: Action::current_name(&event.kind).to_owned(), bytes })
        }
        Err(error) => {
            tracing::error!(%id, %error, "audit entry cannot be parsed as an event; skipped");
            None
        }
    }
}
