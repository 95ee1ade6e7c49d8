//! Servers whose wall clocks the harness sets, about the end of a month, and which do not take minutes to send a webhook
//! again. The product has no knob for that: the harness runs itself a second time, as a server that differs from the real
//! one in these times alone.

use std::{
    env, io, process,
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::{Duration, Instant},
};

use cloudapi::{
    base::clock::{Clock, Timestamp},
    cli::{self, Times},
    resources,
    usage::close::GRACE,
    webhooks::pace::Pace,
};

/// How many milliseconds the clock of a server is ahead of the system's when it starts.
pub const AHEAD: &str = "CHAOS_CLOCK_AHEAD";

/// The arguments that make of the harness's own binary a server.
pub const SERVE: [&str; 4] = ["--ignored", "--exact", "clocks::a_server_of_other_times", "--nocapture"];

/// How the nodes' clocks stand.
pub struct Clocks {
    /// The latest end of a month, which no credential's end is near to.
    months_end: Timestamp,
    /// By node, how many milliseconds it is ahead of the system's clock.
    ahead: Vec<AtomicI64>,
}

impl Clocks {
    /// As the system's.
    pub fn right(nodes: usize) -> Self {
        let today = Clock::system().now().date();
        let first = today.replace_day(1).unwrap().midnight().assume_utc();
        let ahead = std::iter::repeat_with(AtomicI64::default).take(nodes).collect();
        Self { months_end: Timestamp::new(first), ahead }
    }

    /// Some time before the month's end, each node at another.
    pub fn before_the_months_end(nodes: usize) -> Self {
        let clocks = Self::right(nodes);
        for node in 0..nodes {
            clocks.set(node, -60 - 10 * i64::try_from(node).unwrap());
        }
        clocks
    }

    /// How far a node is ahead, in milliseconds.
    pub fn ahead(&self, node: usize) -> i64 {
        self.ahead[node].load(Ordering::SeqCst)
    }

    /// When the month before becomes final.
    pub fn final_at(&self) -> Timestamp {
        self.months_end.plus(GRACE)
    }

    /// Lets it be so many seconds past the month's end, or before it; gives by how many milliseconds to step.
    pub fn set(&self, node: usize, past_end: i64) -> i64 {
        let now = Clock::system().now().unix_millis();
        let ahead = self.months_end.unix_millis() + past_end * 1000 - now;
        ahead - self.ahead[node].swap(ahead, Ordering::SeqCst)
    }
}

/// Sets a clock forward or back by so many milliseconds.
fn step(clock: &Clock, millis: &str) {
    let millis: i64 = millis.parse().expect("a step in milliseconds");
    let by = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { clock.set_back(by) } else { clock.set_forward(by) }
}

/// As the product has it, but in seconds what takes minutes there.
fn soon() -> Pace {
    Pace {
        poll: Duration::from_millis(100),
        exchange: Duration::from_secs(1),
        lease: Duration::from_secs(3),
        first_pause: Duration::from_millis(200),
        longest_pause: Duration::from_secs(1),
        ..Pace::default()
    }
}

/// The same for operations on resources: what a killed server had in hand is taken up in two seconds.
fn cloud_soon() -> resources::pace::Pace {
    resources::pace::Pace {
        poll: Duration::from_millis(50),
        lease: Duration::from_secs(2),
        call: Duration::from_secs(10),
        look_again: Duration::from_millis(50),
        first_pause: Duration::from_millis(50),
        longest_pause: Duration::from_secs(1),
        sweep: Duration::from_secs(1),
        ..resources::pace::Pace::default()
    }
}

#[test]
#[ignore = "a server of the harness, not a test"]
fn a_server_of_other_times() {
    // Whoever runs all that is ignored wants no server.
    let Ok(ahead) = env::var(AHEAD) else { return };
    let clock = Clock::system();
    step(&clock, &ahead);
    let steered = clock.clone();
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).for_each(|line| step(&steered, &line));
        // Whoever steered it is gone.
        process::exit(1);
    });
    // What the test's runner says must not stand before what the server says in the same line.
    println!();
    let times = Times { clock, pace: soon(), cloud: cloud_soon() };
    cli::run(["cloudapi", "serve", "--listen", "127.0.0.1:0"].map(Into::into), times).unwrap();
}

#[test]
fn a_clock_is_stepped_by_what_lies_between_where_it_stood_and_where_it_shall_stand() {
    let began = Instant::now();
    let clocks = Clocks::before_the_months_end(2);
    let stood = clocks.ahead(1);
    let by = clocks.set(1, 30);
    assert_eq!(clocks.ahead(1), stood + by);
    // Less what has gone by since it was set first.
    let gone = i64::try_from(began.elapsed().as_millis()).unwrap() + 1;
    assert!((100_000 - gone..=100_000).contains(&by), "{by}");
    let read = Clock::system();
    step(&read, &clocks.ahead(1).to_string());
    assert_eq!((read.now().date().day(), clocks.months_end.date().day()), (1, 1));
    step(&read, "-60000");
    assert!(read.now().date().day() > 27);
}
