//! Measures the cost of recording and counting requests, of flushing the counters, and of reports by credential, next
//! to baselines in the same run. Run with `cargo bench --bench usage`; `-- recording`, `-- counting`, `-- flush` or `--
//! breakdown` runs a part.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod breakdown;
mod counting;
mod flushing;
mod recording;
#[path = "../support/mod.rs"]
mod support;

use std::env;

use support::{Result, postgres::Postgres};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [server, counts, database, folder] = arguments.as_slice()
        && server == "--server"
    {
        return runtime.block_on(counting::serve(counts == "on", database, folder.as_ref()));
    }
    let is_selected = |part: &str| {
        let parts: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        parts.is_empty() || parts.iter().any(|wanted| *wanted == part)
    };
    if is_selected("recording") {
        recording::run();
    }
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    if is_selected("counting") {
        counting::one_call(folder.path())?;
        counting::hot_path(folder.path(), &postgres.url)?;
    }
    // Each part has an empty database in the same PostgreSQL.
    if is_selected("flush") {
        runtime.block_on(async { flushing::run(folder.path(), &postgres.database("flush").await?).await })?;
    }
    if is_selected("breakdown") {
        let database = runtime.block_on(postgres.database("breakdown"))?;
        breakdown::run(folder.path(), &database)?;
    }
    Ok(())
}
