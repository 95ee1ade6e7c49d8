//! Counts out nodes that are gone. A node writes a fresh stamp into its row each second; one whose stamp
//! stands still for 2 W has no lease any more, and a recall need not wait for it.

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::lease::Timing;

/// What one node has seen of the others' rows.
#[derive(Debug)]
pub struct Janitor<N> {
    patience: Duration,
    seen: HashMap<N, (i64, Duration)>,
}

impl<N: Copy + Eq + Hash> Janitor<N> {
    /// One that has seen nothing yet.
    pub fn new(timing: Timing) -> Self {
        Self { patience: timing.wait * 2, seen: HashMap::new() }
    }

    /// Looks at all rows, which were read before it was `now` on the node's own clock. Gives the rows to remove, each on the
    /// condition that its stamp is still this one.
    pub fn look(&mut self, now: Duration, rows: &[(N, i64)]) -> Vec<(N, i64)> {
        self.seen.retain(|node, _| rows.iter().any(|(there, _)| there == node));
        let mut gone = Vec::new();
        for &(node, stamp) in rows {
            let (last, since) = self.seen.entry(node).or_insert((stamp, now));
            if *last != stamp {
                (*last, *since) = (stamp, now);
            } else if now.saturating_sub(*since) >= self.patience {
                gone.push((node, stamp));
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stamp_that_stood_still_for_twice_the_wait_is_of_a_node_that_is_gone() {
        let mut janitor = Janitor::new(Timing::USUAL);
        let patience = Timing::USUAL.wait * 2;
        let second = Duration::from_secs(1);
        assert_eq!(janitor.look(second, &[(1, 10), (2, 11)]), []);
        assert_eq!(janitor.look(second * 2, &[(1, 12), (2, 11)]), []);
        assert_eq!(janitor.look(second + patience, &[(1, 12), (2, 11)]), [(2, 11)]);
        assert_eq!(janitor.look(second * 2 + patience, &[(1, 12)]), [(1, 12)]);
    }
}
