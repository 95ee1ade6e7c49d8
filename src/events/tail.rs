//! Follows sealed entries for all readers of a node: one query for any number of readers, and each event is formatted
//! once.

use std::time::Duration;

use axum::body::Bytes;
use tokio::{sync::watch, time::timeout};

use super::{
    hub::Frame,
    model::Event,
    repo::{self, Followed},
};
use crate::{
    auth::node,
    base::{
        action::Action,
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
        id::{AuditId, EventId},
    },
    state::App,
};

/// Number of entries per query.
const ROWS: i64 = 1_000;
/// Deadline for a database read.
const READ_TIME: Duration = Duration::from_secs(5);
/// Maximum wait between polls without a notification from the sealer.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Interval at which invalidations by other servers are polled if the node has no credential cache.
const RECALL_INTERVAL: Duration = Duration::from_millis(100);
/// Delay after a failed read.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until it is stopped. Does not query the database while there are no readers.
pub async fn run(app: App, heartbeat: Heartbeat) {
    let following = async {
        let mut tail = Tail { sealed: app.sealing.last.subscribe(), recalls: None, failing: false, app };
        loop {
            heartbeat.wait_for(tail.app.hub.wanted()).await;
            tail.follow(&heartbeat).await;
        }
    };
    heartbeat.stop().run_until_cancelled(following).await;
}

struct Tail {
    app: App,
    /// Last ID sealed by any server, as known to the sealer.
    sealed: watch::Receiver<AuditId>,
    /// Last invalidation that was seen, if the node has no credential cache.
    recalls: Option<i64>,
    failing: bool,
}

impl Tail {
    /// Publishes events as long as there are readers.
    async fn follow(&mut self, heartbeat: &Heartbeat) {
        while let Some(position) = self.app.hub.position() {
            heartbeat.progress();
            self.sealed.mark_unchanged();
            match timeout(READ_TIME, self.step(position)).await.unwrap_or_else(|_| Err(late())) {
                Ok(is_full) => {
                    self.failing = false;
                    if !is_full {
                        let is_blind = self.app.node.credentials.is_none();
                        let longest = if is_blind { RECALL_INTERVAL } else { LONGEST_WAIT };
                        let _ = timeout(longest, self.sealed.changed()).await;
                    }
                }
                Err(error) => {
                    self.app.db.note(&error);
                    if !self.failing {
                        tracing::warn!(%error, "event tail failed; streams wait until it recovers");
                    }
                    self.failing = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Publishes the events after `position`. Returns whether more may be available immediately.
    async fn step(&mut self, position: EventId) -> Result<bool> {
        let app = &self.app;
        let mut db = app.db.acquire().await?;
        if app.node.credentials.is_none() {
            // Without a cache, no lease is held, and nothing else detects invalidations by other servers.
            let recalls = Some(node::clock(&mut db).await?.seq);
            if recalls != std::mem::replace(&mut self.recalls, recalls) {
                app.node.tell_of_recall();
            }
        }
        let rows = repo::follow(&mut db, position, ROWS).await?;
        drop(db);
        let Some(Followed { id: last, .. }) = rows.last() else { return Ok(false) };
        let (last, is_full) = (*last, rows.len() as i64 == ROWS);
        let events = rows.into_iter().filter_map(|row| Some((row.project_id, (row.id, row.payload?))));
        app.hub.publish((position, last), events, |(id, payload)| frame(id, &payload, &app.public_url));
        Ok(is_full)
    }
}

fn late() -> Error {
    Error::new(Code::Timeout, "The database did not respond in time; retrying")
}

/// Formats an event for the stream. Returns `None`, and logs an error, if the entry cannot be parsed.
pub fn frame(id: EventId, payload: &[u8], public_url: &str) -> Option<Frame> {
    match Event::of(payload, public_url) {
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
