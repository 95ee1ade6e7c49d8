//! Measures what servers cost that nobody uses: transactions of the database, and CPU time of a server. Run with
//! `cargo bench --bench idle`. It measures one server, then three on the same database, for half a minute each.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use support::{Result, Server, bootstrap, deployment::Deployment, postgres::Postgres};

/// Time after a start until its work is done: connections are made, caches filled, statements prepared.
const SETTLING: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_secs(30);
/// Maximum number of transactions a second with one server, and for each further one.
const MAX_FIRST: f64 = 5.0;
const MAX_FURTHER: f64 = 3.0;
/// Maximum CPU time of a server, in cores.
const MAX_CORES: f64 = 0.003;

fn main() -> Result<()> {
    // `cargo test` builds benches too, and runs them with this argument.
    if env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(folder.path(), &postgres))
}

async fn run(folder: &Path, postgres: &Postgres) -> Result<()> {
    let database = postgres.database("idle").await?;
    bootstrap(folder, &database)?;
    let deployment = Deployment::new(folder, &database)?;
    let mut servers = vec![deployment.start("first")?];
    println!("servers  transactions/s   bar  CPU of each server, % of a core (bar {:.1})", MAX_CORES * 100.0);
    measure(&database, &servers).await?;
    for name in ["second", "third"] {
        servers.push(deployment.start(name)?);
    }
    measure(&database, &servers).await
}

async fn measure(database: &str, servers: &[Server]) -> Result<()> {
    tokio::time::sleep(SETTLING).await;
    let (began, before) = (Instant::now(), transactions(database).await?);
    let cpu_before: Vec<Duration> = servers.iter().filter_map(Server::cpu_time).collect();
    tokio::time::sleep(MEASURED).await;
    let seconds = began.elapsed().as_secs_f64();
    let cpu: Vec<f64> = servers
        .iter()
        .filter_map(Server::cpu_time)
        .zip(cpu_before)
        .map(|(after, before)| (after - before).as_secs_f64() / seconds)
        .collect();
    // The connection that reads the statistics is a transaction, too: one for each reading.
    let rate = (transactions(database).await? - before - 1) as f64 / seconds;
    let bar = MAX_FIRST + MAX_FURTHER * (servers.len() - 1) as f64;
    let is_short = rate > bar || cpu.iter().any(|cores| *cores > MAX_CORES);
    let cpu: Vec<String> = cpu.iter().map(|cores| format!("{:.2}", cores * 100.0)).collect();
    println!("{:7} {rate:15.2} {bar:5.0}  {}{}", servers.len(), cpu.join(", "), if is_short { "  !" } else { "" });
    Ok(())
}

/// Transactions of the database so far. A new connection, because a session reports its numbers when it ends or is idle.
async fn transactions(database: &str) -> Result<i64> {
    let mut db = PgConnection::connect(database).await?;
    let count = sqlx::query_scalar(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&mut db)
    .await?;
    db.close().await?;
    Ok(count)
}
