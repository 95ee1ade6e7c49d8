//! Simulates the protocol of `lease`, `cache` and `janitor`. Three nodes have clocks of different speeds, are paused,
//! killed and disconnected, and their messages are delayed or lost. Meanwhile, the database fails over from one server to
//! another, and connections lead to either. The simulator then checks that no request was accepted that began after
//! the invalidation of its credential was confirmed. The same seed always gives the same run.

mod db;
mod protocol;
mod servers;
mod troubles;
mod world;

use world::World;

/// Deliberate protocol errors. Each violates the guarantee, and the simulator must detect that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The cache is read before the lease.
    CacheBeforeLease,
    /// The lease counts from the response to the renewal instead of its start.
    LeaseFromReply,
    /// The lease is a flag that a timer clears.
    FlagClearedByTimer,
    /// A value that was read before an invalidation is valid in the cache after it.
    FillWithoutTombstones,
    /// The log is numbered by a sequence, so its order differs from the order of the commits.
    SequenceForLog,
    /// An invalidation waits for a shorter time than a lease lasts.
    WaitTooShort,
    /// A repeated DELETE does not wait.
    RepeatDoesNotWait,
    /// A node counts its stamps itself, and starts at 1 again after a restart.
    StampRestarts,
    /// A value that was read before a node was removed is cached after the node has registered again.
    FillAcrossEpochs,
    /// A cache entry depends only on the credential, not on its issuers and project.
    TombstoneOnCredentialAlone,
    /// A lookup does not check that its snapshot contains what the node has applied.
    NoSeqCheck,
    /// A lookup does not check that it ran on the server of the heartbeats.
    NoServerCheck,
    /// Without a lease, database reads count.
    FallbackWithoutHeartbeat,
    /// The result of a rejected lookup is cached.
    RejectedReadCached,
    /// Acknowledgments are read on any server.
    AcksFromAnotherServer,
    /// A node that renews its lease on another server keeps its cache and its log number.
    EpochAcrossServers,
    /// A node that revokes on one server and has its lease on another does not wait for its own acknowledgment.
    OwnLeaseElsewhere,
    /// A read does not have to see what its own node revoked and confirmed before the node has read that part of the log.
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

/// Number of runs without violations, unless `SIMULATOR_SEEDS` is set.
const SEEDS: u64 = 3000;
/// Number of runs in which each deliberate error must be detected.
const SEEDS_OF_A_MISTAKE: u64 = 3000;

#[test]
fn request_that_begins_after_a_confirmed_invalidation_is_never_accepted() {
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
    // Guards against a simulator in which nothing happens.
    println!(
        "{accepted} accepted, {hits} of them from a cache; {confirmed} invalidations confirmed, {by_time} by time"
    );
    println!("{failovers} failovers; {rejected} lookups rejected");
    assert!(hits > accepted / 4 && accepted > seeds * 100 && confirmed > seeds * 5 && by_time > seeds / 10);
    assert!(failovers > seeds / 3 && rejected > seeds);
}

#[test]
fn each_deliberate_error_is_detected() {
    let mut unseen = Vec::new();
    for mistake in MISTAKES {
        let first = (0..SEEDS_OF_A_MISTAKE).find(|seed| !World::run(*seed, Some(mistake)).violations.is_empty());
        println!("{mistake:?}: first detected with seed {first:?}");
        if first.is_none() {
            unseen.push(mistake);
        }
    }
    assert_eq!(unseen, []);
}

#[test]
fn same_seed_gives_the_same_run() {
    let figures = |seed| {
        let world = World::run(seed, None);
        (world.accepted, world.hits, world.confirmed, world.confirmed_by_time)
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}
