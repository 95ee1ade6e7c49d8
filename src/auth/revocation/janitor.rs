//! Detects dead nodes. Each heartbeat writes a new stamp into the node's row, once a second. A node whose stamp has not
//! changed for 2 W has no lease any more, so an invalidation does not have to wait for it.

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::lease::Timing;

/// Rows of the other nodes as one node has observed them.
#[derive(Debug)]
pub struct Janitor<N> {
    timeout: Duration,
    observed: HashMap<N, (i64, Duration)>,
}

impl<N: Copy + Eq + Hash> Janitor<N> {
    /// A janitor that has not seen any rows yet.
    pub fn new(timing: Timing) -> Self {
        Self { timeout: timing.wait * 2, observed: HashMap::new() }
    }

    /// Examines all rows, which were read before the node's own clock was at `now`. Returns the rows to remove, each on
    /// the condition that its stamp is still the same.
    pub fn find_dead(&mut self, now: Duration, rows: &[(N, i64)]) -> Vec<(N, i64)> {
        self.observed.retain(|node, _| rows.iter().any(|(there, _)| there == node));
        let mut dead = Vec::new();
        for &(node, stamp) in rows {
            let (last, since) = self.observed.entry(node).or_insert((stamp, now));
            if *last != stamp {
                (*last, *since) = (stamp, now);
            } else if now.saturating_sub(*since) >= self.timeout {
                dead.push((node, stamp));
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_dead_only_if_its_stamp_is_unchanged_for_twice_the_wait() {
        let mut janitor = Janitor::new(Timing::DEFAULT);
        let timeout = Timing::DEFAULT.wait * 2;
        let second = Duration::from_secs(1);
        assert_eq!(janitor.find_dead(second, &[(1, 10), (2, 11)]), []);
        assert_eq!(janitor.find_dead(second * 2, &[(1, 12), (2, 11)]), []);
        assert_eq!(janitor.find_dead(second + timeout, &[(1, 12), (2, 11)]), [(2, 11)]);
        assert_eq!(janitor.find_dead(second * 2 + timeout, &[(1, 12)]), [(1, 12)]);
    }
}
