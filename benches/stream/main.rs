//! Measures how long an event takes to reach the readers of Server-Sent Events. Run with `cargo bench --bench stream`;
//! `-- one` measures 1,000 readers of one project, next to plain sockets, and `-- many` 5,000 readers of 1,000 projects.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing, reason = "a program for a terminal")]

mod arrivals;
mod many_projects;
mod one_project;
#[path = "../support/mod.rs"]
mod support;

use std::env;

use tokio::runtime::{Builder, Runtime};

use support::{Result, postgres::Postgres, raise_file_limit};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    // A reader takes one socket here and one in each server.
    raise_file_limit()?;
    if let [bare, _] = arguments.as_slice()
        && bare == "--bare"
    {
        return Builder::new_multi_thread().enable_all().build()?.block_on(one_project::serve_bare());
    }
    let is_selected = |part: &str| {
        let mut parts = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|wanted| wanted == part)
    };
    // All clients run in one thread, which leaves the other cores to the servers.
    let clients: Runtime = Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start_with(folder.path(), &[many_projects::STATEMENT_COUNTS])?;
    // Each part has an empty database in the same PostgreSQL.
    if is_selected("one") {
        let database = clients.block_on(postgres.database("one_project"))?;
        one_project::run(&clients, folder.path(), &database)?;
    }
    if is_selected("many") {
        let database = clients.block_on(postgres.database("many_projects"))?;
        many_projects::run(&clients, folder.path(), &postgres, &database)?;
    }
    Ok(())
}
