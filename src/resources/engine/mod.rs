//! Engine: claims operations that are due, executes their next steps at the provider, and stores the results. It runs
//! on every server. A claimed operation is leased: if its server dies, another server claims it and checks what has
//! already been done.

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

/// Time for steps in progress to finish when the server stops. Steps that are cut off are resumed after the lease.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Time limit for claiming operations in the database.
const LONGEST: Duration = Duration::from_secs(15);

/// Runs until the server stops, then waits for the steps in progress to finish, unless `now` is canceled.
pub async fn run(app: App, heartbeat: Heartbeat, now: CancellationToken) {
    let stop = heartbeat.stop();
    let mut engine = Engine { turns: JoinSet::new(), due: None, is_well: true, app };
    while !stop.is_cancelled() {
        heartbeat.progress();
        // Until then, there may be no tables.
        let more = engine.app.lifecycle.is_open() && engine.take_or_log().await;
        let until = engine.next_look();
        // If more operations are due than fit, start the next one when one ends.
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
            "operations still in progress at shutdown; they are resumed by another server or after a restart"
        );
    }
}

struct Engine {
    app: App,
    /// Tasks in progress. Each returns when its operation is due again.
    turns: JoinSet<Option<Instant>>,
    /// When the first operation that this server released is due. Polling finds those that others released.
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
                tracing::error!(%error, "operation task panicked, which is a bug; the operation is resumed");
            }
        }
    }

    async fn take_or_log(&mut self) -> bool {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the claim is retried"));
        let taken = timeout(LONGEST, self.take()).await.unwrap_or_else(late);
        if let Err(error) = &taken {
            self.app.db.note(error);
        }
        let was_well = std::mem::replace(&mut self.is_well, taken.is_ok());
        match (&taken, was_well) {
            (Ok(_), false) => tracing::info!("claiming operations works again"),
            (Err(error), true) => {
                tracing::warn!(%error, "claiming operations failed; it is retried");
            }
            _ => {}
        }
        taken.unwrap_or(false)
    }

    /// Claims as many due operations as there is room for, and starts them. Returns whether more may be due.
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
