//! Follows the sealed order for all of a node's readers: one query for as many readers as there are, and each event is
//! written once.

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

/// How many entries are read at a time.
const ROWS: i64 = 1_000;
/// How long the database may take.
const READ_TIME: Duration = Duration::from_secs(5);
/// How long to wait at most before looking again, should the sealer have nothing to say.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often to look for other servers' recalls, where nobody else does.
const RECALL_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait after a read that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until it must stop. Asks nothing of the database while nobody reads.
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
    /// What the sealer knows to be sealed, by whichever server.
    sealed: watch::Receiver<AuditId>,
    /// Up to where recalls were seen, where nobody else follows them.
    recalls: Option<i64>,
    failing: bool,
}

impl Tail {
    /// Follows for as long as somebody reads.
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
                        tracing::warn!(%error, "events cannot be read; streams wait until they can");
                    }
                    self.failing = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Hands out what there is after `position`; gives whether there may be more at once.
    async fn step(&mut self, position: EventId) -> Result<bool> {
        let app = &self.app;
        let mut db = app.db.acquire().await?;
        if app.node.credentials.is_none() {
            // Without a cache there is no lease, and nobody who hears of other servers' recalls.
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
    Error::new(Code::Timeout, "The database did not answer in time; it is tried again")
}

/// An event as it goes over the wire. None for what cannot be read, which is said in the log.
pub fn frame(id: EventId, payload: &[u8], public_url: &str) -> Option<Frame> {
    match Event::of(payload, public_url) {
        Ok(event) => {
            let bytes = Bytes::from(format!("id: {id}\nevent: {}\ndata: {}\n\n", event.kind, event.to_json()));
            Some(Frame { id, action: Action::current_name(&event.kind).to_owned(), bytes })
        }
        Err(error) => {
            tracing::error!(%id, %error, "an entry of the audit trail is no event; it is left out");
            None
        }
    }
}
