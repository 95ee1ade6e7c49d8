//! A run: clients work while faults happen, and invariants are checked at the end.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};

use crate::{
    harness::{client::Client, faults::Fault, random::Random},
    invariants::{Invariant, RunEnd},
    servers::cluster::Cluster,
};

/// How soon everything must be served again after a fault is healed.
const LONGEST_OUTAGE: Duration = Duration::from_secs(5);

/// The minimum number of successful responses between two faults.
pub const MIN_RESPONSES: usize = 40;

/// How long no client may be served at all.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// The length of a run, from the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    pub seed: u64,
    /// How many servers are killed.
    pub kills: usize,
    /// How many credentials are revoked.
    pub revocations: usize,
    /// How often PostgreSQL stalls while operations are in progress.
    pub stalls: usize,
    /// How often the database fails over.
    pub failovers: usize,
}

impl Scale {
    /// Short enough for `cargo test`.
    const DEFAULT: Self = Self { seed: 1, kills: 4, revocations: 40, stalls: 1, failovers: 1 };

    /// Whether the run is as short as possible, with any seed.
    fn is_default(self) -> bool {
        Self { seed: self.seed, ..Self::DEFAULT } == self
    }

    /// Reads `CHAOS_SEED`, `CHAOS_KILLS`, `CHAOS_REVOCATIONS`, `CHAOS_STALLS` and `CHAOS_FAILOVERS`.
    pub fn from_env() -> Self {
        let number = |name: &str| {
            let text = env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} = '{text}' is not a number")))
        };
        let count = |name: &str, usual: usize| number(name).map_or(usual, |number| usize::try_from(number).unwrap());
        let scale = Self {
            seed: number("CHAOS_SEED").unwrap_or(Self::DEFAULT.seed),
            kills: count("CHAOS_KILLS", Self::DEFAULT.kills),
            revocations: count("CHAOS_REVOCATIONS", Self::DEFAULT.revocations),
            stalls: count("CHAOS_STALLS", Self::DEFAULT.stalls),
            failovers: count("CHAOS_FAILOVERS", Self::DEFAULT.failovers),
        };
        let Self { seed, kills, revocations, stalls, failovers } = scale;
        println!(
            "CHAOS_SEED={seed} CHAOS_KILLS={kills} CHAOS_REVOCATIONS={revocations} CHAOS_STALLS={stalls} \
             CHAOS_FAILOVERS={failovers}"
        );
        scale
    }
}

/// The machine's capacity, in thirds and halves of it.
static MACHINE: Semaphore = Semaphore::const_new(6);

/// A part of the machine's capacity, held by a running test.
pub type Share = SemaphorePermit<'static>;

/// Held by each test that keeps servers busy. Two such tests run next to each other: outages then stay far below
/// [`LONGEST_OUTAGE`]. A longer run has the machine for itself, because it is a measurement.
pub async fn busy(scale: Scale) -> Share {
    MACHINE.acquire_many(if scale.is_default() { 3 } else { 6 }).await.expect("a semaphore that is never closed")
}

/// Held by each test that mostly waits. Three such tests run next to each other.
pub async fn waiting() -> Share {
    MACHINE.acquire_many(2).await.expect("a semaphore that is never closed")
}

/// The parameters of a run.
pub struct Trial {
    pub seed: u64,
    /// Executed one after the other.
    pub faults: Vec<Fault>,
    pub invariants: Vec<Arc<dyn Invariant>>,
    /// How long clients wait for a response before they try another node, in milliseconds.
    pub timeout: Range<u64>,
    /// How many successful responses there are between two faults.
    pub work: usize,
    /// Faults after all clients have finished.
    pub last: Vec<Fault>,
}

/// Runs the clients of all invariants during the faults, then checks the invariants.
pub async fn run(cluster: &mut Cluster, trial: Trial) {
    let begun = Instant::now();
    let clients = Clients::start(cluster, &trial);
    let Trial { seed, faults, invariants, work, last, .. } = trial;
    let mut metrics = RunMetrics::default();
    for fault in &faults {
        clients_work(cluster, work).await;
        metrics.inject(fault, cluster).await;
    }
    clients_work(cluster, work).await;
    while !invariants.iter().all(|invariant| invariant.is_exercised()) {
        clients_work(cluster, 1).await;
    }
    clients.finish().await;
    for fault in &last {
        metrics.inject(fault, cluster).await;
    }
    let end = RunEnd { cluster, log: cluster.run_state.log() };
    let (mut broken, mut broken_count) = (Vec::new(), 0);
    for invariant in &invariants {
        let verdict = invariant.check(&end).await;
        metrics.found.extend(verdict.metrics);
        broken.extend(verdict.broken);
        broken_count += verdict.broken_count;
    }
    println!("{}{:>45} {:.1} s\n", metrics.table(), "duration of the run", begun.elapsed().as_secs_f32());
    assert_eq!(broken_count, 0, "CHAOS_SEED={seed}: {broken_count} violations:\n{}", broken.join("\n"));
    let outage = metrics.longest_outage();
    assert!(outage < LONGEST_OUTAGE, "a node did not serve for {outage:?} after a fault was healed");
}

/// Waits until clients were served some more, so that each fault happens under load.
async fn clients_work(cluster: &Cluster, work: usize) {
    let wanted = cluster.run_state.served() + work;
    let (mut served, mut since) = (0, Instant::now());
    while served < wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = cluster.run_state.served();
        if now > served {
            (served, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < LONGEST_SILENCE, "no client was served for {LONGEST_SILENCE:?}");
    }
}

/// Client tasks, which act until they are asked to finish. Dropping this aborts them.
struct Clients {
    finish: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Clients {
    fn start(cluster: &Cluster, trial: &Trial) -> Self {
        let finish = Arc::new(AtomicBool::new(false));
        let mut random = Random::new(!trial.seed);
        let mut tasks = JoinSet::new();
        let of_all = trial.invariants.iter().flat_map(|invariant| std::iter::repeat_n(invariant, invariant.clients()));
        for (number, invariant) in of_all.enumerate() {
            let (invariant, finish) = (Arc::clone(invariant), Arc::clone(&finish));
            let mut client = Client::new(&cluster.run_state, number, random.fork());
            client.timeout = client.random.millis(trial.timeout.start, trial.timeout.end);
            tasks.spawn(async move {
                while !finish.load(Ordering::SeqCst) {
                    invariant.act(&mut client).await;
                }
            });
        }
        Self { finish, tasks }
    }

    /// Waits until each client has its last response.
    async fn finish(mut self) {
        self.finish.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client without a panic");
        }
    }
}

#[derive(Default)]
struct RunMetrics {
    /// By kind of fault: how many, how many as planned, and the longest outage afterwards.
    faults: BTreeMap<&'static str, (usize, usize, Duration)>,
    kills: usize,
    found: Vec<(&'static str, String)>,
}

impl RunMetrics {
    async fn inject(&mut self, fault: &Fault, cluster: &mut Cluster) {
        let as_planned = fault.inject(cluster).await;
        let outage = cluster.all_serve(fault.name()).await;
        let (count, planned, longest) = self.faults.entry(fault.name()).or_default();
        *count += 1;
        *planned += usize::from(as_planned);
        *longest = outage.max(*longest);
        self.kills += usize::from(fault.is_kill_of_node());
    }

    fn longest_outage(&self) -> Duration {
        self.faults.values().map(|(.., outage)| *outage).max().unwrap_or_default()
    }

    fn table(&self) -> String {
        let mut table = String::new();
        for (name, (count, planned, outage)) in &self.faults {
            let missed = if planned < count { format!(", {} of them missed", count - planned) } else { String::new() };
            let outage = outage.as_millis();
            writeln!(table, "{name:>45} {count}{missed}; served again within {outage} ms").unwrap();
        }
        writeln!(table, "{:>45} {}", "servers killed", self.kills).unwrap();
        writeln!(table, "{:>45} {} ms", "longest outage", self.longest_outage().as_millis()).unwrap();
        for (name, value) in &self.found {
            writeln!(table, "{name:>45} {value}").unwrap();
        }
        table
    }
}
