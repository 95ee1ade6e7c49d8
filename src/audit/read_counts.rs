//! Records reads of the trail. The first read in a minute is recorded immediately. Further reads in that minute are
//! counted and recorded when the minute is over. Otherwise, each page of a list would append an entry to the trail, and
//! paging to its end would never finish.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use sqlx::PgConnection;

use super::{
    model::{Actor, Changes, DEPLOYMENT, Draft, Outcome, Target, user_agent},
    repo,
};
use crate::{
    base::{
        action::Action,
        error::Result,
        id::ProjectId,
        runtime::{
            clock::{Clock, Timestamp},
            request::RequestContext,
        },
    },
    db::ConnectionSource,
};

/// Period in which reads of one reader are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of readers that are counted. Reads of further readers are recorded immediately.
const MAX_WINDOWS: usize = 10_000;

/// Reads since the first one of each minute.
#[derive(Debug, Default)]
pub struct ReadCounts(Mutex<HashMap<(ProjectId, Actor), ReadWindow>>);

#[derive(Clone, Copy, Debug)]
struct ReadWindow {
    started_at: Timestamp,
    repeats: u64,
}

impl ReadCounts {
    /// Records that `request` reads a trail, immediately or when the minute is over.
    pub async fn record(
        &self,
        db: &mut PgConnection,
        request: &RequestContext,
        chain: ProjectId,
        now: Timestamp,
    ) -> Result<()> {
        if self.count_repeat(chain, Actor::from_request(request), now) {
            return Ok(());
        }
        repo::stage(db, &[(chain, draft(request, chain, Action::AuditRead, count(1), now))]).await?;
        Ok(())
    }

    /// Returns whether there was a read in the last minute. If so, counts this one.
    fn count_repeat(&self, chain: ProjectId, actor: Actor, now: Timestamp) -> bool {
        let mut windows = self.lock();
        let has_capacity = windows.len() < MAX_WINDOWS;
        match windows.get_mut(&(chain, actor.clone())) {
            // A minute that is over and has counted reads is recorded at the next flush, including this read.
            Some(window) if window.started_at.until(now) < WINDOW || window.repeats > 0 => {
                window.repeats += 1;
                true
            }
            Some(window) => {
                window.started_at = now;
                false
            }
            None => {
                if has_capacity {
                    windows.insert((chain, actor), ReadWindow { started_at: now, repeats: 0 });
                }
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ProjectId, Actor), ReadWindow>> {
        // A panic in another thread leaves the map consistent: each change is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the reads of minutes that are over, or of all minutes if `is_last`. Reads that cannot be recorded now
    /// are kept for the next flush, also if this future is canceled.
    pub async fn flush(&self, db: &impl ConnectionSource, clock: &Clock, is_last: bool) -> Result<()> {
        let now = clock.now();
        let is_finished = |window: &ReadWindow| is_last || window.started_at.until(now) >= WINDOW;
        let finished = self.lock().extract_if(|_, window| is_finished(window)).collect();
        let mut flushed = FlushedWindows { reads: self, finished };
        let mut repeated: Vec<_> = flushed.finished.iter().filter(|(_, window)| window.repeats > 0).collect();
        if repeated.is_empty() {
            flushed.finished.clear();
            return Ok(());
        }
        repeated.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let drafts: Vec<_> = repeated
            .into_iter()
            .map(|((chain, actor), window)| {
                let draft = Draft::by_system(Action::AuditRead, Outcome::Success, count(window.repeats), now);
                (*chain, Draft { actor: actor.clone(), target: target(*chain), ..draft })
            })
            .collect();
        repo::stage(&mut *db.connection().await?, &drafts).await?;
        flushed.finished.clear();
        Ok(())
    }
}

/// Reads that are being staged. On drop, reads that were not staged are counted again.
struct FlushedWindows<'a> {
    reads: &'a ReadCounts,
    finished: Vec<((ProjectId, Actor), ReadWindow)>,
}

impl Drop for FlushedWindows<'_> {
    fn drop(&mut self) {
        let mut windows = self.reads.lock();
        for (reader, window) in self.finished.drain(..) {
            let since = windows.entry(reader).or_insert(ReadWindow { repeats: 0, ..window });
            *since = ReadWindow { started_at: window.started_at, repeats: since.repeats + window.repeats };
        }
    }
}

/// Draft for an action of a client or the operator on a trail.
pub fn draft(request: &RequestContext, chain: ProjectId, action: Action, changes: Changes, now: Timestamp) -> Draft {
    Draft {
        actor: Actor::from_request(request),
        request_id: Some(request.id),
        source_ip: request.client,
        target: target(chain),
        traceparent: Some(request.trace.to_string()),
        user_agent: user_agent(request),
        ..Draft::by_system(action, Outcome::Success, changes, now)
    }
}

fn target(chain: ProjectId) -> Option<Target> {
    (chain != DEPLOYMENT).then(|| Target::new(chain))
}

fn count(reads: u64) -> Changes {
    [("count".to_owned(), json!(reads))].into_iter().collect()
}
