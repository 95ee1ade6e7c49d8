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
        clock::{Clock, Timestamp},
        error::Result,
        id::ProjectId,
        request::RequestContext,
    },
    db::Connections,
};

/// Period in which reads of one reader are counted together.
const SPAN: Duration = Duration::from_secs(60);
/// Maximum number of readers that are counted. Reads of further readers are recorded immediately.
const MOST: usize = 10_000;

/// Reads since the first one of each minute.
#[derive(Debug, Default)]
pub struct Reads(Mutex<HashMap<(ProjectId, Actor), Span>>);

#[derive(Clone, Copy, Debug)]
struct Span {
    began: Timestamp,
    more: u64,
}

impl Reads {
    /// Records that `request` reads a trail, immediately or when the minute is over.
    pub async fn note(
        &self,
        db: &mut PgConnection,
        request: &RequestContext,
        chain: ProjectId,
        now: Timestamp,
    ) -> Result<()> {
        if self.is_within(chain, Actor::of(request), now) {
            return Ok(());
        }
        repo::stage(db, &[(chain, by(request, chain, Action::AuditRead, count(1), now))]).await?;
        Ok(())
    }

    /// Returns whether there was a read in the last minute. If so, counts this one.
    fn is_within(&self, chain: ProjectId, actor: Actor, now: Timestamp) -> bool {
        let mut spans = self.lock();
        let is_known = spans.len() < MOST;
        match spans.get_mut(&(chain, actor.clone())) {
            // A minute that is over and has counted reads is recorded at the next flush, including this read.
            Some(span) if span.began.until(now) < SPAN || span.more > 0 => {
                span.more += 1;
                true
            }
            Some(span) => {
                span.began = now;
                false
            }
            None => {
                if is_known {
                    spans.insert((chain, actor), Span { began: now, more: 0 });
                }
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ProjectId, Actor), Span>> {
        // A panic in another thread leaves the map consistent: each change is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the reads of minutes that are over, or of all minutes if `is_last`. Reads that cannot be recorded now are
    /// kept for the next flush, also if this future is canceled.
    pub async fn flush(&self, db: &impl Connections, clock: &Clock, is_last: bool) -> Result<()> {
        let now = clock.now();
        let is_over = |span: &Span| is_last || span.began.until(now) >= SPAN;
        let over = self.lock().extract_if(|_, span| is_over(span)).collect();
        let mut taken = Spans { reads: self, over };
        let mut told: Vec<_> = taken.over.iter().filter(|(_, span)| span.more > 0).collect();
        if told.is_empty() {
            taken.over.clear();
            return Ok(());
        }
        told.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let drafts: Vec<_> = told
            .into_iter()
            .map(|((chain, actor), span)| {
                let draft = Draft::by_system(Action::AuditRead, Outcome::Success, count(span.more), now);
                (*chain, Draft { actor: actor.clone(), target: target(*chain), ..draft })
            })
            .collect();
        repo::stage(&mut *db.connection().await?, &drafts).await?;
        taken.over.clear();
        Ok(())
    }
}

/// Reads that are being staged. On drop, reads that were not staged are counted again.
struct Spans<'a> {
    reads: &'a Reads,
    over: Vec<((ProjectId, Actor), Span)>,
}

impl Drop for Spans<'_> {
    fn drop(&mut self) {
        let mut kept = self.reads.lock();
        for (reader, span) in self.over.drain(..) {
            let since = kept.entry(reader).or_insert(Span { more: 0, ..span });
            *since = Span { began: span.began, more: since.more + span.more };
        }
    }
}

/// Draft for an action of a client or the operator on a trail.
pub fn by(request: &RequestContext, chain: ProjectId, action: Action, changes: Changes, now: Timestamp) -> Draft {
    Draft {
        actor: Actor::of(request),
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
