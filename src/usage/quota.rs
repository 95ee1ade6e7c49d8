//! Hard limits: the projects that have used up what they may this month, as the last flush has found; and which projects
//! are to be told how near they are to what they may.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{
    ledger::Standing,
    model::{Notice, QuotaKind},
};
use crate::base::{
    clock::Clock,
    error::{Code, Error, Result},
    id::ProjectId,
    period::Period,
};

/// The shares of a quota, in percent, that a project is told of.
const TOLD_AT: [u8; 2] = [80, 100];

/// Which projects' keys and tokens are refused. Each node asks the database once a second.
#[derive(Debug)]
pub struct Quota {
    exhausted: ArcSwap<HashSet<ProjectId>>,
    /// What the database has been told to tell of, so that it is not asked again each second.
    told: Mutex<HashSet<Notice>>,
    clock: Clock,
}

impl Quota {
    /// Nobody is refused yet.
    pub fn new(clock: Clock) -> Self {
        Self { exhausted: ArcSwap::default(), told: Mutex::default(), clock }
    }

    /// From now on the projects are refused that have reached their hard limit of `period`, and no others.
    pub fn set(&self, standings: &[Standing], period: Period) {
        let has_reached = |standing: &&Standing| {
            standing.period == period && standing.hard_limit.is_some_and(|limit| standing.requests >= limit)
        };
        let exhausted: HashSet<_> = standings.iter().filter(has_reached).map(|standing| standing.project_id).collect();
        if !(exhausted.is_empty() && self.exhausted.load().is_empty()) {
            self.exhausted.store(Arc::new(exhausted));
        }
    }

    /// What the projects are to be told, with how many requests they have made, unless this server knows that they were.
    pub fn untold(&self, standings: &[Standing]) -> Vec<(Notice, i64)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        standings.iter().flat_map(notices).filter(|(notice, _)| !told.contains(notice)).collect()
    }

    /// These were told. What is no longer near is forgotten: should it be near again, the database knows.
    pub fn told(&self, standings: &[Standing]) {
        let near = standings.iter().flat_map(notices).map(|(notice, _)| notice).collect();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = near;
    }

    /// Refuses a project that has used up what it may.
    pub fn require(&self, project: ProjectId) -> Result<()> {
        let exhausted = self.exhausted.load();
        if exhausted.is_empty() || !exhausted.contains(&project) {
            return Ok(());
        }
        let now = self.clock.now();
        let end = Period::of(now.date()).end();
        let seconds = u32::try_from(now.until(end).as_secs() + 1).unwrap_or(u32::MAX);
        let detail = format!(
            "The project has made all the requests that it may this month; ask the operator for more, or wait until {end}. A session still works"
        );
        Err(Error::new(Code::QuotaExceeded, detail).retry_after(seconds))
    }
}

/// What a project is to be told of where it stands. A quota of nothing is no quota to come near to.
fn notices(standing: &Standing) -> impl Iterator<Item = (Notice, i64)> {
    let Standing { project_id, period, requests, included, hard_limit } = *standing;
    let quotas = [(QuotaKind::Included, included), (QuotaKind::HardLimit, hard_limit)];
    let bounds = quotas.into_iter().filter_map(|(quota, bound)| Some((quota, bound.filter(|bound| *bound > 0)?)));
    bounds.flat_map(move |(quota, bound)| {
        let is_reached = move |percent: &u8| i128::from(requests) * 100 >= i128::from(bound) * i128::from(*percent);
        let notice = move |percent| (Notice { project_id, period, quota, bound, percent }, requests);
        TOLD_AT.into_iter().filter(is_reached).map(notice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_told_at_four_fifths_and_at_all_of_each_quota() {
        let period: Period = "2026-03".parse().unwrap();
        let told = |requests, included, hard_limit| -> Vec<_> {
            let project_id = ProjectId::from_u128(1);
            notices(&Standing { project_id, period, requests, included, hard_limit })
                .map(|(notice, _)| (notice.quota, notice.percent))
                .collect()
        };
        let (included, hard_limit) = (QuotaKind::Included, QuotaKind::HardLimit);
        assert_eq!(told(79, Some(100), None), []);
        assert_eq!(told(80, Some(100), None), [(included, 80)]);
        assert_eq!(told(100, Some(100), Some(124)), [(included, 80), (included, 100), (hard_limit, 80)]);
        assert_eq!(told(8, None, Some(11)), []);
        assert_eq!(told(i64::MAX, Some(0), Some(i64::MAX)), [(hard_limit, 80), (hard_limit, 100)]);
    }
}
