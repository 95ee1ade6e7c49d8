//! 5,000 readers of 1,000 projects while 200 events a second happen: how long an event takes to each reader, what the
//! processes cost, and how often the servers read an event from the database.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use rand::RngExt;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    runtime::Runtime,
    task::{JoinHandle, LocalSet, spawn_local},
    time::{sleep, sleep_until},
};

use crate::{
    arrivals::{Arrival, Outcome, Write, percentiles, take_events},
    support::{
        Result, Server, bootstrap, cpu_time_of,
        deployment::Deployment,
        load::{CONNECTIONS, Client, open_stream, request, text},
        postgres::Postgres,
    },
};

/// Setting of PostgreSQL that counts the rows each statement has returned.
pub const STATEMENT_COUNTS: &str = "shared_preload_libraries=pg_stat_statements";

const PROJECTS: usize = 1_000;
const READERS_PER_PROJECT: usize = 5;
const READERS: usize = PROJECTS * READERS_PER_PROJECT;
const EVENTS_PER_SECOND: usize = 200;
const SECONDS: usize = 30;
/// Time without events before, in which idle readers are measured.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// How long the last events may take at most.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Events that happen, and the number of servers that readers and writers are spread over.
struct Scenario {
    title: &'static str,
    servers: usize,
    /// Whether one of ten writes revokes a token. After each invalidation, readers check their authorization.
    revokes: bool,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario { title: "one server, all writes create a token", servers: 1, revokes: false },
    Scenario { title: "one server, one of ten writes revokes a token", servers: 1, revokes: true },
    Scenario { title: "two servers, all writes create a token", servers: 2, revokes: false },
];

/// Runs all scenarios in an empty database. `clients` runs all clients.
pub fn run(clients: &Runtime, folder: &Path, postgres: &Postgres, database: &str) -> Result<()> {
    let (session, _) = bootstrap(folder, database)?;
    println!("{READERS} readers of {PROJECTS} projects, {EVENTS_PER_SECOND} events/s for {SECONDS} s");
    let local = LocalSet::new();
    let deployment = Deployment::new(folder, database)?;
    let start = |number: usize| deployment.start(&format!("server-{number}"));
    let server = start(0)?;
    let keys: Rc<[String]> = local.block_on(clients, create_projects(server.address, &session))?.into();
    drop(server);
    for scenario in &SCENARIOS {
        let servers = (0..scenario.servers).map(start).collect::<Result<Vec<_>>>()?;
        local.block_on(clients, measure(scenario, &servers, postgres, &keys))?;
    }
    Ok(())
}

/// Creates the projects. Returns a key of each.
async fn create_projects(address: SocketAddr, session: &str) -> Result<Vec<String>> {
    let create = |first: usize| {
        let session = session.to_owned();
        async move {
            let (mut client, mut keys) = (Client::open(address).await?, Vec::new());
            for number in (first..PROJECTS).step_by(CONNECTIONS) {
                let new = json!({ "name": format!("Project {number}") });
                let project = text(&client.create("/v1/projects", &session, &new).await?, "id")?;
                let new = json!({ "project_id": project });
                keys.push(text(&client.create("/v1/keys", &session, &new).await?, "key")?);
            }
            Ok(keys)
        }
    };
    concat((0..CONNECTIONS).map(|first| spawn_local(create(first))).collect()).await
}

async fn concat<T>(tasks: Vec<JoinHandle<Result<Vec<T>>>>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

async fn measure(scenario: &Scenario, servers: &[Server], postgres: &Postgres, keys: &Rc<[String]>) -> Result<()> {
    let addresses: Rc<[SocketAddr]> = servers.iter().map(|server| server.address).collect();
    let mut db = PgConnection::connect(&postgres.url).await?;
    let memory = || servers.iter().map(Server::memory).sum::<Result<u64>>();
    let before = memory()?;
    let readers = Readers::open(&addresses, keys).await?;
    let idle = Usage::now(servers, postgres)?;
    sleep(IDLE_TIME).await;
    let idle = idle.until_now(servers, postgres)?;
    let per_stream = memory()?.saturating_sub(before) as f64 / READERS as f64 / 1024.0;

    // A library of PostgreSQL, which its packages contain.
    sqlx::raw_sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()")
        .execute(&mut db)
        .await?;
    readers.forget();
    let usage = Usage::now(servers, postgres)?;
    let writes = write_events(scenario, &addresses, keys).await?;
    let expected = writes.len() * READERS_PER_PROJECT;
    let deadline = Instant::now() + RECEIVE_TIMEOUT;
    while readers.received.get() < expected && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    let usage = usage.until_now(servers, postgres)?;

    let of_readers = readers.close();
    let outcome = Outcome::new(&writes, of_readers.iter().map(|reader| (reader.project, reader.arrivals.as_slice())));
    println!("  {}", scenario.title);
    println!("    ms from the request to the arrival at a reader: {}", percentiles(&outcome.since_request));
    println!("    ms from the response to the arrival at a reader: {}", percentiles(&outcome.since_response));
    println!(
        "    {} events, {} arrivals; {} lost, {} unexpected, {} out of order, {} streams ended",
        writes.len(),
        outcome.since_request.len(),
        outcome.lost,
        outcome.unexpected,
        outcome.out_of_order,
        of_readers.iter().filter(|reader| reader.end.is_some()).count(),
    );
    if let Some(end) = of_readers.iter().find_map(|reader| reader.end.as_ref()) {
        println!("    the first end: {end}");
    }
    println!("    CPU, in % of a core: {usage}");
    println!("    CPU before, without events: {idle}");
    println!("    memory of the servers for each stream: {per_stream:.1} KiB");
    print_reads(&mut db, outcome.events).await
}

/// CPU times.
struct Usage {
    at: Instant,
    servers: Duration,
    postgres: Duration,
    clients: Duration,
}

impl Usage {
    fn now(servers: &[Server], postgres: &Postgres) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            servers: servers.iter().filter_map(Server::cpu_time).sum(),
            postgres: postgres.cpu_time()?,
            clients: cpu_time_of(std::process::id()).unwrap_or_default(),
        })
    }

    /// Shares of a core since then.
    fn until_now(&self, servers: &[Server], postgres: &Postgres) -> Result<String> {
        let now = Self::now(servers, postgres)?;
        let elapsed = now.at.duration_since(self.at).as_secs_f64();
        let share = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / elapsed * 100.0;
        Ok(format!(
            "servers {:.1}, PostgreSQL {:.1}, these clients {:.1}",
            share(self.servers, now.servers),
            share(self.postgres, now.postgres),
            share(self.clients, now.clients)
        ))
    }
}

/// Open streams.
struct Readers {
    tasks: Vec<(Rc<RefCell<Reader>>, JoinHandle<()>)>,
    /// Number of measured events that all readers have received.
    received: Rc<Cell<usize>>,
}

#[derive(Default)]
struct Reader {
    project: usize,
    arrivals: Vec<Arrival>,
    /// Why the stream has ended.
    end: Option<String>,
}

impl Readers {
    /// Opens all streams, spread over the servers.
    async fn open(addresses: &Rc<[SocketAddr]>, keys: &Rc<[String]>) -> Result<Self> {
        let received = Rc::new(Cell::new(0));
        let open = |first: usize| {
            let (addresses, keys, received) = (Rc::clone(addresses), Rc::clone(keys), Rc::clone(&received));
            async move {
                let mut tasks = Vec::new();
                for number in (first..READERS).step_by(CONNECTIONS) {
                    let project = number / READERS_PER_PROJECT;
                    let stream = open_stream(addresses[number % addresses.len()], &keys[project]).await?;
                    let reader = Rc::new(RefCell::new(Reader { project, ..Reader::default() }));
                    let reading = read(stream, Rc::clone(&reader), Rc::clone(&received));
                    tasks.push((reader, spawn_local(reading)));
                }
                Ok(tasks)
            }
        };
        let tasks = concat((0..CONNECTIONS).map(|first| spawn_local(open(first))).collect()).await?;
        Ok(Self { tasks, received })
    }

    /// Forgets events of what happened before, such as the creation of the keys.
    fn forget(&self) {
        self.tasks.iter().for_each(|(reader, _)| reader.borrow_mut().arrivals.clear());
        self.received.set(0);
    }

    /// Closes all streams.
    fn close(self) -> Vec<Reader> {
        let close = |(reader, task): (Rc<RefCell<Reader>>, JoinHandle<()>)| {
            task.abort();
            reader.take()
        };
        self.tasks.into_iter().map(close).collect()
    }
}

/// Reads until the stream ends.
async fn read(mut stream: TcpStream, reader: Rc<RefCell<Reader>>, received: Rc<Cell<usize>>) {
    let mut bytes = Vec::with_capacity(2048);
    let end = loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) => break format!("closed after {:?}", String::from_utf8_lossy(&bytes)),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        match take_events(&mut bytes) {
            Ok(events) => {
                received.set(received.get() + events.iter().filter(|event| event.is_measured()).count());
                reader.borrow_mut().arrivals.extend(events);
            }
            Err(error) => break error.to_string(),
        }
    };
    reader.borrow_mut().end = Some(end);
}

/// Writes to projects at random, at a fixed rate.
async fn write_events(scenario: &Scenario, addresses: &[SocketAddr], keys: &Rc<[String]>) -> Result<Vec<Write>> {
    let revokes = scenario.revokes;
    let interval = Duration::from_secs(1) / u32::try_from(EVENTS_PER_SECOND)?;
    let began = Instant::now() + Duration::from_millis(20);
    let write = |first: usize| {
        let (address, keys) = (addresses[first % addresses.len()], Rc::clone(keys));
        async move {
            let (mut client, mut writes) = (Client::open(address).await?, Vec::<Write>::new());
            for number in (first..EVENTS_PER_SECOND * SECONDS).step_by(CONNECTIONS) {
                let due = began + interval * u32::try_from(number)?;
                if due > Instant::now() {
                    sleep_until(due.into()).await;
                }
                // The timer has a resolution of a millisecond.
                let sent = due.max(Instant::now().min(due + Duration::from_millis(1)));
                let last = writes.last().filter(|_| revokes && writes.len() % 10 == 9);
                let (project, kind, subject) = match last {
                    Some(Write { project, name: (_, token), .. }) => {
                        let path = format!("/v1/tokens/{token}");
                        client.send(&request("DELETE", &path, &keys[*project], "", ""), 200).await?;
                        (*project, "token.revoked", token.clone())
                    }
                    None => {
                        let project = rand::rng().random_range(0..PROJECTS);
                        let new = json!({ "name": "reader", "scopes": ["users:read"] });
                        let made = client.create("/v1/tokens", &keys[project], &new).await?;
                        (project, "token.created", text(&made, "id")?)
                    }
                };
                writes.push(Write { project, name: (kind.to_owned(), subject), sent, responded: Instant::now() });
            }
            Ok(writes)
        }
    };
    concat((0..CONNECTIONS).map(|first| spawn_local(write(first))).collect()).await
}

/// Prints what the statements that read events have returned.
async fn print_reads(db: &mut PgConnection, events: usize) -> Result<()> {
    let statements: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT calls, rows, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements
         WHERE query ~ '(FROM|JOIN) audit_entries' ORDER BY rows DESC",
    )
    .fetch_all(db)
    .await?;
    println!("    statements that read events:");
    for (calls, rows, query) in statements {
        println!("      {calls} calls, {rows} rows, {:.2} for each event: {query:.90}", rows as f64 / events as f64);
    }
    Ok(())
}
