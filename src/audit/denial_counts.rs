//! Aggregates requests that were denied with 401 or 403. A flood of invalid requests causes neither an entry nor a
//! query per request.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::json;

use super::{
    model::{Actor, Changes, DEPLOYMENT, Draft, Outcome},
    repo,
};
use crate::{
    base::{
        action::Action,
        error::{Code, Result},
        id::{ProjectId, UserId},
        identity::credential::CredentialId,
        runtime::{
            clock::{Clock, Timestamp},
            request::{Origin, RequestContext},
        },
    },
    db::ConnectionSource,
};

/// Maximum number of distinct denials that are counted separately between two flushes. Further denials share one count.
const MAX_KEYS: usize = 10_000;

/// Denials since the last flush.
#[derive(Debug, Default)]
pub struct DenialCounts(Mutex<HashMap<DenialKey, u64>>);

/// Key of a count, or `None` if there were too many distinct denials.
type DenialKey = Option<Denial>;

/// Properties that distinguish denials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Denial {
    project: Option<ProjectId>,
    caller: Option<(CredentialId, Option<UserId>)>,
    code: Code,
    method: &'static str,
    route: &'static str,
}

impl DenialCounts {
    /// Counts one denial: `request`, with the method `method`, was denied with `code`.
    pub fn count(&self, request: &RequestContext, method: &'static str, code: Code) {
        // A failed sign-in is a separate entry.
        if code == Code::InvalidCredentials || request.origin != Origin::Client {
            return;
        }
        let caller = request.caller.get();
        let denial = Denial {
            project: request.project.get().copied(),
            caller: caller.map(|caller| (caller.credential_id(), caller.user_id())),
            code,
            method,
            route: request.route.get().map_or("none", |route| route.template),
        };
        let mut counts = self.lock();
        let has_capacity = counts.len() < MAX_KEYS || counts.contains_key(&Some(denial));
        *counts.entry(has_capacity.then_some(denial)).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DenialKey, u64>> {
        // A panic in another thread leaves the map consistent: each change is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages the counts. Counts that cannot be staged now are kept for the next flush, also if this future is
    /// canceled.
    pub async fn flush(&self, db: &impl ConnectionSource, clock: &Clock) -> Result<()> {
        let mut pending = PendingCounts { source: self, counts: mem::take(&mut *self.lock()) };
        if pending.counts.is_empty() {
            return Ok(());
        }
        let now = clock.now();
        let mut sorted: Vec<_> = pending.counts.iter().collect();
        sorted.sort_unstable();
        let drafts: Vec<_> = sorted.into_iter().map(|(denial, count)| to_draft(*denial, *count, now)).collect();
        repo::stage(&mut *db.connection().await?, &drafts).await?;
        pending.counts.clear();
        Ok(())
    }
}

/// Counts that are being staged. On drop, counts that were not staged are added back.
struct PendingCounts<'a> {
    source: &'a DenialCounts,
    counts: HashMap<DenialKey, u64>,
}

impl Drop for PendingCounts<'_> {
    fn drop(&mut self) {
        let mut current = self.source.lock();
        for (denial, count) in self.counts.drain() {
            *current.entry(denial).or_default() += count;
        }
    }
}

fn to_draft(denial: DenialKey, count: u64, now: Timestamp) -> (ProjectId, Draft) {
    let route = denial.map(|denial| format!("{} {}", denial.method, denial.route));
    let changes = [
        ("code".to_owned(), json!(denial.map(|denial| denial.code.as_str()))),
        ("count".to_owned(), json!(count)),
        ("route".to_owned(), json!(route)),
    ];
    let changes: Changes = changes.into_iter().collect();
    let actor = match denial.and_then(|denial| denial.caller) {
        Some((CredentialId::Session(session), Some(user))) => Actor::user(user, session),
        Some((credential, _)) => Actor::credential(credential),
        None => Actor::anonymous(),
    };
    let draft = Draft { actor, ..Draft::by_system(Action::RequestDenied, Outcome::Denied, changes, now) };
    (denial.and_then(|denial| denial.project).unwrap_or(DEPLOYMENT), draft)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::runtime::request::Route;

    fn request(route: &'static str) -> RequestContext {
        let request = RequestContext::new(None, None);
        let _ = request.route.set(Route { template: route, number: 0, index: 0 });
        request
    }

    #[test]
    fn denials_of_the_same_kind_share_one_count() {
        let denials = DenialCounts::default();
        for route in ["/a", "/a", "/b"] {
            denials.count(&request(route), "GET", Code::InvalidToken);
        }
        denials.count(&request("/a"), "POST", Code::InvalidToken);
        denials.count(&request("/a"), "POST", Code::InvalidCredentials);
        let mut counts: Vec<_> = denials.lock().values().copied().collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 2]);
    }

    #[test]
    fn memory_is_bounded_and_every_denial_is_counted() {
        let denials = DenialCounts::default();
        for number in 1..=MAX_KEYS + 7 {
            let request = request("/a");
            let _ = request.project.set(ProjectId::from_u128(number as u128));
            denials.count(&request, "GET", Code::InsufficientScope);
        }
        let counts = denials.lock();
        assert_eq!((counts.len(), counts.get(&None)), (MAX_KEYS + 1, Some(&7)));
        let (project, draft) = to_draft(None, 7, Timestamp::EARLIEST);
        assert_eq!(project, DEPLOYMENT);
        assert_eq!(serde_json::Value::Object(draft.changes), json!({ "code": null, "count": 7, "route": null }));
    }
}
