//! Servers whose wall clocks the harness sets around the end of a month, and which retry webhook deliveries within
//! seconds. No setting changes these times. The harness runs its own binary a second time, as a server that differs
//! from the real one only in these times.

use std::{
    env, io, process,
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::{Duration, Instant},
};

use cloudapi::{
    api::{usage::finalize::GRACE, webhooks::delivery::backoff::DeliveryPolicy},
    base::runtime::clock::{Clock, Timestamp},
    cli::{self, ServerTiming},
    resources,
};

/// The environment variable with how many milliseconds a server's clock is ahead of the system's when it starts.
pub const AHEAD: &str = "CHAOS_CLOCK_AHEAD";

/// The arguments that turn the harness's own binary into a server.
pub const SERVE: [&str; 4] = ["--ignored", "--exact", "servers::clocks::server_with_test_timing", "--nocapture"];

/// The nodes' clocks.
pub struct Clocks {
    /// The latest end of a month, which is far from any credential's expiry.
    months_end: Timestamp,
    /// By node, how many milliseconds its clock is ahead of the system's.
    ahead: Vec<AtomicI64>,
}

impl Clocks {
    /// Clocks with the system's time.
    pub fn right(nodes: usize) -> Self {
        let today = Clock::system().now().date();
        let first = today.replace_day(1).unwrap().midnight().assume_utc();
        let ahead = std::iter::repeat_with(AtomicI64::default).take(nodes).collect();
        Self { months_end: Timestamp::new(first), ahead }
    }

    /// Clocks shortly before the end of the month, each with another time.
    pub fn before_the_months_end(nodes: usize) -> Self {
        let clocks = Self::right(nodes);
        for node in 0..nodes {
            clocks.set(node, -60 - 10 * i64::try_from(node).unwrap());
        }
        clocks
    }

    /// How far a node's clock is ahead, in milliseconds.
    pub fn ahead(&self, node: usize) -> i64 {
        self.ahead[node].load(Ordering::SeqCst)
    }

    /// When the ending month becomes final.
    pub fn final_at(&self) -> Timestamp {
        self.months_end.plus(GRACE)
    }

    /// Sets a node's clock to this many seconds after the end of the month; negative values are before it. Returns the
    /// step in milliseconds.
    pub fn set(&self, node: usize, past_end: i64) -> i64 {
        let now = Clock::system().now().unix_millis();
        let ahead = self.months_end.unix_millis() + past_end * 1000 - now;
        ahead - self.ahead[node].swap(ahead, Ordering::SeqCst)
    }
}

/// Moves a clock forward or back by this many milliseconds.
fn step(clock: &Clock, millis: &str) {
    let millis: i64 = millis.parse().expect("a step in milliseconds");
    let by = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { clock.set_back(by) } else { clock.set_forward(by) }
}

/// The default backoff with seconds instead of minutes.
fn fast_pace() -> DeliveryPolicy {
    DeliveryPolicy {
        poll: Duration::from_millis(100),
        request_timeout: Duration::from_secs(1),
        lease: Duration::from_secs(3),
        initial_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(1),
        ..DeliveryPolicy::default()
    }
}

/// The same for operations on resources: another server takes over a dead server's operations within two seconds.
fn fast_engine_timing() -> resources::engine::timing::EngineTiming {
    resources::engine::timing::EngineTiming {
        poll_interval: Duration::from_millis(50),
        lease: Duration::from_secs(2),
        call_timeout: Duration::from_secs(10),
        reread_interval: Duration::from_millis(50),
        initial_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        sweep_interval: Duration::from_secs(1),
        ..resources::engine::timing::EngineTiming::default()
    }
}

#[test]
#[ignore = "a server of the harness, not a test"]
fn server_with_test_timing() {
    // A run of all ignored tests must not start a server.
    let Ok(ahead) = env::var(AHEAD) else { return };
    let clock = Clock::system();
    step(&clock, &ahead);
    let steered = clock.clone();
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).for_each(|line| step(&steered, &line));
        // The harness has exited.
        process::exit(1);
    });
    // Ends the line that the test runner has started, so that the server's output starts a new one.
    println!();
    let times = ServerTiming { clock, pace: fast_pace(), cloud: fast_engine_timing() };
    cli::run(["cloudapi", "serve", "--listen", "127.0.0.1:0"].map(Into::into), times, || {}).unwrap();
}

#[test]
fn clock_moves_by_difference_between_its_old_and_new_time() {
    let began = Instant::now();
    let clocks = Clocks::before_the_months_end(2);
    let stood = clocks.ahead(1);
    let by = clocks.set(1, 30);
    assert_eq!(clocks.ahead(1), stood + by);
    // Less the time that has passed since the clock was first set.
    let gone = i64::try_from(began.elapsed().as_millis()).unwrap() + 1;
    assert!((100_000 - gone..=100_000).contains(&by), "{by}");
    let read = Clock::system();
    step(&read, &clocks.ahead(1).to_string());
    assert_eq!((read.now().date().day(), clocks.months_end.date().day()), (1, 1));
    step(&read, "-60000");
    assert!(read.now().date().day() > 27);
}
