//! Faults, in an order that a seed decides.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{
    harness::random::Random,
    proxy::{NetworkCondition, TrapPoint},
    servers::cluster::Cluster,
};

/// One fault, which is healed after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a server, and the start of a new one.
    Kill { node: usize, down: Duration },
    /// `kill -9` of a server after PostgreSQL has committed and before the server receives the response.
    KillAtCommit { node: usize },
    /// The same for the commit of a usage flush.
    KillAtFlush { node: usize },
    /// A server's wall clock is set to this many seconds after the end of the month; negative values are before it.
    SetClock { node: usize, past_end: i64 },
    /// The month that the clocks are set around becomes final.
    EndMonth,
    /// SIGSTOP and SIGCONT of a server.
    Pause { node: usize, time: Duration },
    /// PostgreSQL is shut down cleanly.
    StopPostgres { down: Duration },
    /// `kill -9` of PostgreSQL, which then recovers from its log.
    KillPostgres { down: Duration },
    /// All PostgreSQL processes are stopped with SIGSTOP and continued with SIGCONT. Connections stay open, but hang.
    Stall { time: Duration },
    /// PostgreSQL terminates connections of servers.
    Terminate { backends: usize },
    /// All connections of a server to PostgreSQL are reset.
    Cut { node: usize },
    /// The same, after PostgreSQL has committed and before the server receives the response.
    CutAtCommit { node: usize },
    /// The network between a server and PostgreSQL misbehaves.
    Network { node: usize, condition: NetworkCondition, time: Duration },
}

/// For this many kills there is one other fault of each kind, and at least one in total.
const KILLS_PER_OTHER: usize = 10;

/// The faults of a run with this many kills of servers. The same seed gives the same faults.
pub fn plan(seed: u64, nodes: usize, kills: usize) -> Vec<Fault> {
    let random = &mut Random::new(seed);
    let mut faults = Vec::new();
    for kill in 0..kills {
        let node = random.below(nodes);
        // Half of them between COMMIT and its response.
        faults.push(match kill % 2 {
            0 => Fault::KillAtCommit { node },
            _ => Fault::Kill { node, down: random.millis(0, 200) },
        });
    }
    for _ in 0..kills.div_ceil(KILLS_PER_OTHER) {
        let slow = NetworkCondition::Slow(random.millis(5, 60));
        faults.push(Fault::Pause { node: random.below(nodes), time: random.millis(100, 1000) });
        faults.push(Fault::StopPostgres { down: random.millis(0, 300) });
        faults.push(Fault::KillPostgres { down: random.millis(0, 300) });
        // In a long run, longer than any wait for a connection.
        let stall = if kills < KILLS_PER_OTHER { random.millis(300, 1500) } else { random.millis(6000, 12_000) };
        faults.push(Fault::Stall { time: stall });
        faults.push(Fault::Terminate { backends: 1 + random.below(20) });
        faults.push(Fault::Cut { node: random.below(nodes) });
        faults.push(Fault::CutAtCommit { node: random.below(nodes) });
        for condition in [NetworkCondition::Refusing, slow, NetworkCondition::Blackholed] {
            faults.push(Fault::Network { node: random.below(nodes), condition, time: random.millis(100, 1000) });
        }
    }
    random.shuffle(&mut faults);
    faults
}

/// The faults of a run with this many stalls of PostgreSQL, each longer than half the lease of an operation and than
/// the wait for a connection. The same seed gives the same faults.
pub fn plan_of_stalls(seed: u64, stalls: usize) -> Vec<Fault> {
    let random = &mut Random::new(seed);
    // One in twenty is long.
    let time = |number: usize, random: &mut Random| match number % 20 {
        19 => random.millis(8000, 12_000),
        _ => random.millis(5600, 6600),
    };
    (0..stalls).map(|number| Fault::Stall { time: time(number, random) }).collect()
}

/// For this many revocations there is one round of faults in [`plan_around_leases`].
const REVOCATIONS_PER_ROUND: usize = 700;

/// The faults of a run with this many revocations: those that a node's lease protects from, some of them longer than
/// the lease of 3 s. After twice that time, other nodes no longer wait for the node. The same seed gives the same
/// faults.
pub fn plan_around_leases(seed: u64, nodes: usize, revocations: usize) -> Vec<Fault> {
    let random = &mut Random::new(seed);
    let mut faults = Vec::new();
    // Short enough for any run.
    faults.push(Fault::Pause { node: random.below(nodes), time: random.millis(100, 1000) });
    faults.push(Fault::CutAtCommit { node: random.below(nodes) });
    for condition in [NetworkCondition::Refusing, NetworkCondition::Blackholed, NetworkCondition::NotificationsLost] {
        faults.push(Fault::Network { node: random.below(nodes), condition, time: random.millis(200, 600) });
    }
    for _ in 0..revocations / REVOCATIONS_PER_ROUND {
        faults.push(Fault::KillAtCommit { node: random.below(nodes) });
        faults.push(Fault::Kill { node: random.below(nodes), down: random.millis(0, 200) });
        faults.push(Fault::Pause { node: random.below(nodes), time: random.millis(3500, 8000) });
        faults.push(Fault::Pause { node: random.below(nodes), time: random.millis(100, 3000) });
        faults.push(Fault::Cut { node: random.below(nodes) });
        faults.push(Fault::CutAtCommit { node: random.below(nodes) });
        faults.push(Fault::Terminate { backends: 1 + random.below(20) });
        for condition in [NetworkCondition::Refusing, NetworkCondition::Blackholed, NetworkCondition::NotificationsLost]
        {
            faults.push(Fault::Network { node: random.below(nodes), condition, time: random.millis(3500, 5000) });
        }
        let slow = NetworkCondition::Slow(random.millis(5, 60));
        faults.push(Fault::Network { node: random.below(nodes), condition: slow, time: random.millis(100, 2000) });
        faults.push(match random.below(2) {
            0 => Fault::StopPostgres { down: random.millis(0, 300) },
            _ => Fault::KillPostgres { down: random.millis(0, 300) },
        });
    }
    random.shuffle(&mut faults);
    // The kill comes first, because each revocation waits for a dead node until its lease has expired: that takes no
    // extra time during other faults.
    faults.insert(0, Fault::Kill { node: random.below(nodes), down: random.millis(0, 200) });
    faults
}

/// How far clocks are set from the end of the month, in seconds: usually near, and sometimes far, on another day.
const NEAR: u64 = 120;
const FAR: u64 = 30 * 3600;

/// The faults of a run with this many kills of servers across the end of a month: clocks are set throughout, each to
/// another time. The same seed gives the same faults.
pub fn plan_around_flushes(seed: u64, nodes: usize, kills: usize) -> Vec<Fault> {
    let random = &mut Random::new(seed);
    let mut faults = Vec::new();
    for kill in 0..kills {
        let node = random.below(nodes);
        // Half of them between COMMIT and its response.
        faults.push(match kill % 2 {
            0 => Fault::KillAtFlush { node },
            _ => Fault::Kill { node, down: random.millis(0, 200) },
        });
        let range = if kill % KILLS_PER_OTHER == 1 { FAR } else { NEAR };
        let past_end = i64::try_from(random.millis(0, 2 * range).as_millis()).unwrap() - i64::try_from(range).unwrap();
        faults.push(Fault::SetClock { node: random.below(nodes), past_end });
    }
    // `plan` has the faults of short runs.
    for _ in 0..kills / KILLS_PER_OTHER {
        faults.push(Fault::Pause { node: random.below(nodes), time: random.millis(100, 2000) });
        faults.push(Fault::KillPostgres { down: random.millis(0, 300) });
        faults.push(Fault::Terminate { backends: 1 + random.below(20) });
        faults.push(Fault::Cut { node: random.below(nodes) });
        for condition in [NetworkCondition::Refusing, NetworkCondition::Blackholed] {
            faults.push(Fault::Network { node: random.below(nodes), condition, time: random.millis(100, 2000) });
        }
    }
    random.shuffle(&mut faults);
    // Some servers still count requests for the month at that time, and some do so again later.
    faults.insert(faults.len() / 2, Fault::EndMonth);
    faults
}

/// Moves each node's clock across the end of the month and back, one node after the other.
pub fn there_and_back(nodes: usize) -> Vec<Fault> {
    let set = |past_end: i64| (0..nodes).map(move |node| Fault::SetClock { node, past_end });
    set(5).chain(set(-5)).collect()
}

/// Well after the end of the month, in seconds.
pub const NEXT_MONTH: i64 = 600;

/// Sets every clock well after the end of the month.
pub fn next_month(nodes: usize) -> Vec<Fault> {
    (0..nodes).map(|node| Fault::SetClock { node, past_end: NEXT_MONTH }).collect()
}

/// The same, and then kills every server.
pub fn all_killed_next_month(nodes: usize) -> Vec<Fault> {
    let killed = (0..nodes).map(|node| Fault::Kill { node, down: Duration::ZERO });
    next_month(nodes).into_iter().chain(killed).collect()
}

impl Fault {
    /// Its name in the printed results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill -9",
            Self::KillAtCommit { .. } => "kill -9 between COMMIT and response",
            Self::KillAtFlush { .. } => "kill -9 between a flush's COMMIT and response",
            Self::SetClock { past_end: 0.., .. } => "clock set after the end of the month",
            Self::SetClock { .. } => "clock set before the end of the month",
            Self::EndMonth => "month made final",
            Self::Pause { .. } => "SIGSTOP",
            Self::StopPostgres { .. } => "PostgreSQL restarted",
            Self::KillPostgres { .. } => "PostgreSQL kill -9",
            Self::Stall { .. } => "PostgreSQL stalled",
            Self::Terminate { .. } => "backends terminated",
            Self::Cut { .. } => "connections cut",
            Self::CutAtCommit { .. } => "connections cut between COMMIT and response",
            Self::Network { condition: NetworkCondition::Refusing, .. } => "connections refused",
            Self::Network { condition: NetworkCondition::Slow(_), .. } => "slow network",
            Self::Network { condition: NetworkCondition::NotificationsLost, .. } => "notifications lost",
            Self::Network { .. } => "responses lost",
        }
    }

    pub fn is_kill_of_node(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::KillAtCommit { .. } | Self::KillAtFlush { .. })
    }

    /// Injects the fault and heals it. Returns whether it happened as planned.
    pub async fn inject(&self, cluster: &mut Cluster) -> bool {
        match *self {
            Self::Kill { node, down } => {
                cluster.kill_node(node).await;
                tokio::time::sleep(down).await;
                cluster.start_node(node).await;
            }
            Self::KillAtCommit { node } | Self::KillAtFlush { node } => {
                let is_flush = matches!(self, Self::KillAtFlush { .. });
                let point = if is_flush { TrapPoint::Flushed } else { TrapPoint::Committed };
                let caught = cluster.proxies[node].catch(point).await;
                cluster.kill_node(node).await;
                cluster.start_node(node).await;
                return caught;
            }
            Self::SetClock { node, past_end } => cluster.set_clock(node, past_end),
            Self::EndMonth => cluster.end_month().await,
            Self::Pause { node, time } => {
                cluster.signal_node(node, Signal::SIGSTOP);
                tokio::time::sleep(time).await;
                cluster.signal_node(node, Signal::SIGCONT);
            }
            Self::StopPostgres { down } => {
                cluster.stop_postgres().await;
                tokio::time::sleep(down).await;
                cluster.start_postgres().await;
            }
            Self::KillPostgres { down } => {
                cluster.kill_postgres();
                tokio::time::sleep(down).await;
                cluster.revive_postgres().await;
            }
            Self::Stall { time } => {
                let stopped = cluster.stop_postgres_processes();
                tokio::time::sleep(time).await;
                stopped.resume();
            }
            Self::Terminate { backends } => {
                cluster.terminate_backends(backends).await;
            }
            Self::Cut { node } => cluster.proxies[node].cut(),
            Self::CutAtCommit { node } => {
                let caught = cluster.proxies[node].catch(TrapPoint::Committed).await;
                cluster.proxies[node].cut();
                return caught;
            }
            Self::Network { node, condition, time } => {
                cluster.proxies[node].set(condition);
                if condition == NetworkCondition::Refusing {
                    // Open connections would not notice.
                    cluster.proxies[node].cut();
                }
                tokio::time::sleep(time).await;
                cluster.proxies[node].set(NetworkCondition::Normal);
            }
        }
        true
    }
}

#[test]
fn same_seed_gives_same_faults_and_another_seed_gives_others() {
    assert_eq!(plan(1, 3, 20), plan(1, 3, 20));
    assert_ne!(plan(1, 3, 20), plan(2, 3, 20));
    assert_eq!(plan_around_leases(1, 3, 2000), plan_around_leases(1, 3, 2000));
    assert_ne!(plan_around_leases(1, 3, 2000), plan_around_leases(2, 3, 2000));
    assert_eq!(plan_around_flushes(1, 3, 20), plan_around_flushes(1, 3, 20));
    assert_ne!(plan_around_flushes(1, 3, 20), plan_around_flushes(2, 3, 20));
    assert_eq!(plan_of_stalls(1, 20), plan_of_stalls(1, 20));
    assert_ne!(plan_of_stalls(1, 20), plan_of_stalls(2, 20));
    assert_eq!(plan(1, 3, 20).iter().filter(|fault| fault.is_kill_of_node()).count(), 20);
}
