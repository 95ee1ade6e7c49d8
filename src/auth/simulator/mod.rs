//! Runs the protocol of `lease`, `cache` and `janitor` on three nodes whose clocks run unequally, which are
//! paused, killed and cut off, and whose messages are late or lost, while the database fails over from one server to
//! another and connections lead to either; then looks whether anything was accepted in a request that began after its recall was confirmed. One seed gives one run, always the same.

mod db;
mod protocol;
mod servers;
mod troubles;
mod world;

use world::World;

/// What was once got wrong, or nearly. Each breaks the promise, and the simulator must see that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The cache is read before the lease.
    CacheBeforeLease,
    /// The lease counts from when the renewal was answered, not from when it began.
    LeaseFromReply,
    /// The lease is a flag that a timer clears.
    FlagClearedByTimer,
    /// What was read before a recall is cached after it.
    FillWithoutTombstones,
    /// The log is numbered by a sequence, so that its order is not that of the commits.
    SequenceForLog,
    /// A recall waits less long than a lease lasts.
    WaitTooShort,
    /// Who repeats a DELETE is answered at once.
    RepeatDoesNotWait,
    /// A node counts its stamps itself, and begins again at 1 when it starts again.
    StampRestarts,
    /// What was read before a node was counted out is cached once it is back.
    FillAcrossEpochs,
    /// Only the credential's own recall is remembered, not those of what it rests on.
    TombstoneOnCredentialAlone,
    /// A look-up ignores that its snapshot lacks what the node has applied.
    NoSeqCheck,
    /// A look-up ignores that it ran on another server than the heartbeats.
    NoServerCheck,
    /// Without a lease, the database is read and believed.
    FallbackWithoutHeartbeat,
    /// What a rejected look-up said is cached.
    RejectedReadCached,
    /// Acknowledgements are read on any server.
    AcksFromAnotherServer,
    /// A node that renews its lease on another server keeps its cache and its number.
    EpochAcrossServers,
    /// A node that revokes on one server, and has its lease on another, does not wait for itself.
    OwnLeaseElsewhere,
    /// A read need not see what its own node revoked and confirmed before the node followed the log so far.
    OwnRevocationNotRead,
}

const MISTAKES: [Mistake; 18] = [
    Mistake::CacheBeforeLease,
    Mistake::LeaseFromReply,
    Mistake::FlagClearedByTimer,
    Mistake::FillWithoutTombstones,
    Mistake::SequenceForLog,
    Mistake::WaitTooShort,
    Mistake::RepeatDoesNotWait,
    Mistake::StampRestarts,
    Mistake::FillAcrossEpochs,
    Mistake::TombstoneOnCredentialAlone,
    Mistake::NoSeqCheck,
    Mistake::NoServerCheck,
    Mistake::FallbackWithoutHeartbeat,
    Mistake::RejectedReadCached,
    Mistake::AcksFromAnotherServer,
    Mistake::EpochAcrossServers,
    Mistake::OwnLeaseElsewhere,
    Mistake::OwnRevocationNotRead,
];

/// Runs that must all be right, unless `SIMULATOR_SEEDS` says how many.
const SEEDS: u64 = 3000;
/// Runs in which a mistake must show.
const SEEDS_OF_A_MISTAKE: u64 = 3000;

#[test]
fn no_request_that_begins_after_a_confirmed_recall_is_accepted_whatever_fails() {
    let (mut accepted, mut hits, mut confirmed, mut by_time, mut rejected, mut failovers) = (0, 0, 0, 0, 0, 0);
    let wanted = std::env::var("SIMULATOR_SEEDS").ok().map(|text| text.parse().unwrap());
    let seeds = wanted.unwrap_or(SEEDS);
    for seed in 0..seeds {
        let world = World::run(seed, None);
        assert_eq!(world.violations, [] as [String; 0], "seed {seed}");
        accepted += world.accepted;
        hits += world.hits;
        confirmed += world.confirmed;
        by_time += world.confirmed_by_time;
        rejected += world.rejected;
        failovers += u64::from(world.has_failed_over());
    }
    // A simulator in which nothing happens would find nothing.
    println!("{accepted} accepted, {hits} of them from a cache; {confirmed} recalls confirmed, {by_time} by time");
    println!("{failovers} failovers; {rejected} look-ups rejected");
    assert!(hits > accepted / 4 && accepted > seeds * 100 && confirmed > seeds * 5 && by_time > seeds / 10);
    assert!(failovers > seeds / 3 && rejected > seeds);
}

#[test]
fn each_known_mistake_is_seen() {
    let mut unseen = Vec::new();
    for mistake in MISTAKES {
        let first = (0..SEEDS_OF_A_MISTAKE).find(|seed| !World::run(*seed, Some(mistake)).violations.is_empty());
        println!("{mistake:?}: first seen with seed {first:?}");
        if first.is_none() {
            unseen.push(mistake);
        }
    }
    assert_eq!(unseen, []);
}

#[test]
fn one_seed_gives_one_run() {
    let figures = |seed| {
        let world = World::run(seed, None);
        (world.accepted, world.hits, world.confirmed, world.confirmed_by_time)
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}
