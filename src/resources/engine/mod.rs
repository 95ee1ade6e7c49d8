//! Brings providers to what was asked for: takes operations that are due, does their next steps, and notes what came of
//! it. On every server, each its share; whoever takes an operation has it for the time of a lease, and should they
//! die, the next one takes it and looks at what may have been done.

mod ending;
mod turn;

use std::time::{Duration, Instant};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{lifecycle::OperationType, queue};
use crate::{
    base::{
        clock::since_boot,
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
    },
    state::App,
};

/// How long what is under way may take when the server stops. What is cut off is taken up by whoever takes it next.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long to wait for a database that does not answer.
const LONGEST: Duration = Duration::from_secs(15);

/// Runs until it must stop, and lets the steps under way come to their end, unless that is to be `now`.
pub async fn run(app: App, heartbeat: Heartbeat, now: CancellationToken) {
    let stop = heartbeat.stop();
    let mut engine = Engine { turns: JoinSet::new(), due: None, is_well: true, app };
    while !stop.is_cancelled() {
        heartbeat.progress();
        // Before, there may be no tables.
        let more = engine.app.lifecycle.is_open() && engine.take_or_log().await;
        let until = engine.next_look();
        // Where more is due than there was room for, each end makes room.
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.app.cloud.wake.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            Some(ended) = engine.turns.join_next(), if more => engine.ended(ended),
        }
        while let Some(ended) = engine.turns.try_join_next() {
            engine.ended(ended);
        }
    }
    let mut turns = engine.turns;
    let drained = async { while turns.join_next().await.is_some() {} };
    if !matches!(timeout(DRAIN_TIME, now.run_until_cancelled(drained)).await, Ok(Some(()))) {
        tracing::info!(
            "operations on resources were still under way; another server, or this one when it is back, takes them up"
        );
    }
}

struct Engine {
    app: App,
    /// Each gives when what it has put down is due.
    turns: JoinSet<Option<Instant>>,
    /// When the first of what was put down here is due. Of what others have put down, looking tells.
    due: Option<Instant>,
    is_well: bool,
}

impl Engine {
    fn next_look(&self) -> Instant {
        let look = Instant::now() + self.app.cloud.pace.poll;
        self.due.map_or(look, |due| due.min(look))
    }

    fn ended(&mut self, ended: std::result::Result<Option<Instant>, JoinError>) {
        match ended {
            Ok(Some(due)) => self.due = Some(self.due.map_or(due, |before| before.min(due))),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a step of an operation ended in the middle, which is a bug; it is taken up again");
            }
        }
    }

    async fn take_or_log(&mut self) -> bool {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"));
        let taken = timeout(LONGEST, self.take()).await.unwrap_or_else(late);
        if let Err(error) = &taken {
            self.app.db.note(error);
        }
        let was_well = std::mem::replace(&mut self.is_well, taken.is_ok());
        match (&taken, was_well) {
            (Ok(_), false) => tracing::info!("operations on resources go on"),
            (Err(error), true) => {
                tracing::warn!(%error, "operations on resources cannot be gone on with; this is tried again");
            }
            _ => {}
        }
        taken.unwrap_or(false)
    }

    /// Takes what is due and there is room for, and begins with it; gives whether there may be more.
    async fn take(&mut self) -> Result<bool> {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
        }
        let cloud = &self.app.cloud;
        let (pace, room) = (&cloud.pace, cloud.pace.width.saturating_sub(self.turns.len()));
        if room == 0 {
            return Ok(true);
        }
        let providers: Vec<&str> = cloud.providers.iter().map(|provider| provider.name.as_str()).collect();
        let began = since_boot();
        let mut db = cloud.claim_connection(&self.app.db).await?;
        let taken = queue::take(&mut db, &providers, room, pace.lease).await?;
        let births = |kind| matches!(kind, OperationType::Create | OperationType::Import);
        let born: Vec<_> = taken.iter().filter(|taken| births(taken.kind)).map(|taken| taken.resource_id).collect();
        if !born.is_empty() {
            queue::begin(&mut db, &born).await?;
        }
        db.done();
        let more = taken.len() == room;
        for taken in taken {
            self.turns.spawn(turn::run(self.app.clone(), taken, began + pace.lease));
        }
        Ok(more)
    }
}
