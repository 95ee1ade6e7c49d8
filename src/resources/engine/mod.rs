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
    },
    state::App,
};

/// How long what is under way may take when the server stops. What is cut off is taken up by whoever takes it next.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How often to look at how much waits.
const DEPTH_INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait for a database that does not answer.
const LONGEST: Duration = Duration::from_secs(15);

/// Runs until `stop`, and lets the steps under way come to their end, unless that is to be `now`.
pub async fn run(app: App, stop: CancellationToken, now: CancellationToken) {
    let mut engine = Engine { turns: JoinSet::new(), looked: None, is_well: true, app };
    while !stop.is_cancelled() {
        // Before, there may be no tables.
        let more = engine.app.lifecycle.is_open() && engine.take_or_log().await;
        // Where more is due than there was room for, each end makes room.
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.app.cloud.wake.notified() => {}
            () = tokio::time::sleep(engine.app.cloud.pace.poll) => {}
            Some(ended) = engine.turns.join_next(), if more => told(ended),
        }
        while let Some(ended) = engine.turns.try_join_next() {
            told(ended);
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

fn told(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a step of an operation ended in the middle, which is a bug; it is taken up again");
    }
}

struct Engine {
    app: App,
    turns: JoinSet<()>,
    looked: Option<Instant>,
    is_well: bool,
}

impl Engine {
    async fn take_or_log(&mut self) -> bool {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"));
        let taken = timeout(LONGEST, self.take()).await.unwrap_or_else(late);
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
        let cloud = &self.app.cloud;
        let (pace, room) = (&cloud.pace, cloud.pace.width.saturating_sub(self.turns.len()));
        if room == 0 {
            return Ok(true);
        }
        let providers: Vec<&str> = cloud.providers.iter().map(|provider| provider.name.as_str()).collect();
        let began = since_boot();
        let mut db = self.app.db.acquire().await?;
        if self.looked.is_none_or(|looked| looked.elapsed() >= DEPTH_INTERVAL) {
            self.looked = Some(Instant::now());
            cloud.figures.set_depth(queue::depth(&mut db).await?);
        }
        let taken = queue::take(&mut db, &providers, room, pace.lease).await?;
        let births = |kind| matches!(kind, OperationType::Create | OperationType::Import);
        let born: Vec<_> = taken.iter().filter(|taken| births(taken.kind)).map(|taken| taken.resource_id).collect();
        if !born.is_empty() {
            queue::begin(&mut db, &born).await?;
        }
        drop(db);
        let more = taken.len() == room;
        for taken in taken {
            self.turns.spawn(turn::run(self.app.clone(), taken, began + pace.lease));
        }
        Ok(more)
    }
}
