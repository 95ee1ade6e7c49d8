//! Measures the cost of counting a request: on its own, and in a server next to the same server without counting.

use std::{
    collections::HashMap,
    fs,
    hint::black_box,
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use cloudapi::{
    api::usage::counting::{
        flush,
        journal::slot::CounterKey,
        meter::{Meter, MeterOptions},
    },
    base::{
        id::{KeyId, ProjectId},
        identity::credential::CredentialId,
        runtime::{
            clock::{Clock, Timestamp},
            lifecycle::Phase,
        },
    },
    db,
    server::{
        self,
        state::{App, AppOptions},
    },
};
use serde_json::json;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::support::{
    POOL, Result, Server, Spread, bootstrap,
    load::{self, Client, JSON, Requests, always, request, text},
    median,
};

const CREDENTIALS: usize = 10_000;
const CALLS: usize = 2_000_000;
const CALL_ROUNDS: usize = 15;
/// Many short rounds, because the difference is smaller than the drift of the machine's speed within seconds.
const ROUND: Duration = Duration::from_millis(400);
const ROUNDS: usize = 120;
const INTROSPECT: &str = "/v1/tokens/introspect";

/// Measures one call with a journal file, as in a server, next to an atomic addition in a `HashMap`.
pub fn one_call(folder: &Path) -> Result<()> {
    let now = Clock::system().now();
    let meter =
        Meter::new(MeterOptions { folder: Some(folder.join("one-call").join("usage")), ..MeterOptions::default() })?;
    meter.open(Uuid::new_v4(), now.date())?;
    let active: Vec<CounterKey> = (0..CREDENTIALS).map(|_| counted(now)).collect();
    let bare: HashMap<CounterKey, AtomicU64> = active.iter().map(|counted| (*counted, AtomicU64::new(0))).collect();
    let count = |counted: &CounterKey| meter.count(black_box(counted), black_box(now));
    let add = |counted: &CounterKey| {
        if let Some(number) = bare.get(black_box(counted)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    };
    println!("Meter::count with {CREDENTIALS} active credentials, next to an AtomicU64 in a HashMap");
    for threads in [1, 2] {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=CALL_ROUNDS {
            let counting = nanoseconds(threads, &active, count);
            let adding = nanoseconds(threads, &active, add);
            if round > 0 {
                ours.push(counting);
                theirs.push(adding);
                ratios.push(counting / adding);
            }
        }
        println!(
            "  {threads} threads: {:.0} ns per call, bare {:.0} ns, median ratio {:.2}",
            median(&mut ours),
            median(&mut theirs),
            median(&mut ratios)
        );
    }
    Ok(())
}

fn counted(now: Timestamp) -> CounterKey {
    let credential = CredentialId::Key(KeyId::new());
    CounterKey { project: Some(ProjectId::new()), credential, route: 0x5eed_0001, day: now.date() }
}

/// Nanoseconds per call and thread, over `CALLS` calls.
fn nanoseconds(threads: usize, active: &[CounterKey], call: impl Fn(&CounterKey) + Sync) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let call = &call;
            scope.spawn(move || {
                // In an order that the CPU cannot prefetch, and each thread in a different one.
                let mut place = thread * active.len() / 2;
                for _ in 0..CALLS {
                    place = (place + 7919) % active.len();
                    call(&active[place]);
                }
            });
        }
    });
    began.elapsed().as_secs_f64() * 1e9 / CALLS as f64
}

/// Compares two servers that differ only in whether they count.
pub fn hot_path(folder: &Path, database: &str) -> Result<()> {
    let (session, project) = bootstrap(folder, database)?;
    let start = |counts: &str| -> Result<Server> {
        let usage = folder.join("counting").join(counts);
        fs::create_dir_all(&usage)?;
        Server::this_program(folder, &["--server", counts, database, &usage.to_string_lossy()])?.ready()
    };
    let (on, off) = (start("on")?, start("off")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (key, token) = runtime.block_on(async {
        let mut client = Client::open(on.address).await?;
        let key = text(&client.create("/v1/keys", &session, &json!({ "project_id": project })).await?, "key")?;
        let body = json!({ "name": "bench", "scopes": ["usage:read"] });
        let token = text(&client.create("/v1/tokens", &key, &body).await?, "token")?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((key, token))
    })?;
    println!("POST {INTROSPECT} of a cached token with counting, next to the same server without");
    let requests = always(request("POST", INTROSPECT, &key, JSON, &json!({ "token": token }).to_string()));
    compare(&on, &off, &requests)
}

fn compare(on: &Server, off: &Server, requests: &Requests) -> Result<()> {
    let (mut rates, mut costs, mut greatest) = (Vec::new(), Vec::new(), [0_f64; 2]);
    for round in 0..ROUNDS + 4 {
        // Alternate which one goes first, because the first may have an advantage.
        let ([with, cost_with], [without, cost_without]) = if round % 2 == 0 {
            let with = measure(on, requests)?;
            (with, measure(off, requests)?)
        } else {
            let without = measure(off, requests)?;
            (measure(on, requests)?, without)
        };
        // The first rounds warm up.
        if round >= 4 {
            rates.push(with / without);
            costs.push(cost_with / cost_without);
            greatest = [greatest[0].max(with), greatest[1].max(without)];
        }
    }
    println!("  at most {:.0}/s with and {:.0}/s without, in {ROUNDS} rounds", greatest[0], greatest[1]);
    println!("  ratio of responses per second: {}", Spread::of(&mut rates));
    if costs.iter().all(|cost| cost.is_finite()) {
        println!("  ratio of CPU time per response: {}", Spread::of(&mut costs));
    }
    Ok(())
}

/// Responses per second, and nanoseconds of the server's CPU time per response.
fn measure(server: &Server, requests: &Requests) -> Result<[f64; 2]> {
    let before = server.cpu_time();
    let (answers, time) = load::count_responses(server.address, 200, requests, ROUND)?;
    let used = server.cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let cost = used.map_or(f64::NAN, |used| used.as_nanos() as f64 / answers as f64);
    Ok([answers as f64 / time.as_secs_f64(), cost])
}

/// Runs a server as `cloudapi serve` does, with its log on standard error.
pub async fn serve(counts: bool, database: &str, folder: &Path) -> Result<()> {
    let filter = EnvFilter::new("info");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).json().flatten_event(true).init();
    let options = AppOptions {
        public_url: "http://127.0.0.1:8080".into(),
        meter: MeterOptions { folder: Some(folder.join("usage")), is_enabled: counts, ..MeterOptions::default() },
        ..AppOptions::default()
    };
    let app = App::new(db::pool(db::options_from_url(database)?, POOL), Clock::system(), options)?;
    db::prepare(&app.store.db).await?;
    flush::open(&app.meter, &app.store.db, &app.store.clock).await?;
    app.lifecycle.enter(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("bare listens on {}", listener.local_addr()?);
    io::stdout().flush()?;
    server::serve(app, listener, server::Shutdown::default()).await;
    Ok(())
}
