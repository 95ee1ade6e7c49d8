//! Measures every list of the API in a large database, next to a small one with 60 rows of each kind: each filter, each
//! pair of filters, the first page and page ten thousand. Run with `cargo bench --bench growth`; `-- 0.1` scales the
//! large database, `-- /v1/keys` measures only lists with this text in their path.
//!
//! Both servers run as in production: release build, default settings, their logs in files. The lists and their filters
//! come from the OpenAPI document, so a new list or filter is measured without more code. A new filter whose values are
//! not an `enum` needs values in `samples.rs`, and rows in `statements.rs` that match them.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod deployment;
mod lists;
mod measure;
mod project;
mod samples;
mod seed;
mod shapes;
mod statements;
#[path = "../support/mod.rs"]
mod support;

use std::{env, path::Path, time::Instant};

use cloudapi::server::routes;

use deployment::Deployment;
use lists::List;
use measure::{MAX_MS, MAX_RATIO, NOISE_MS, Row, measure, print_header, print_row, serve_others};
use seed::Counts;
use support::{Result, postgres::Postgres};

/// Number of shapes that are measured again after other shapes.
const REPEATED: usize = 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let scale = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1.0);
    let selected = arguments.iter().find(|argument| argument.starts_with('/')).map_or("/", String::as_str);
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(folder.path(), &postgres, scale, selected))
}

async fn run(folder: &Path, postgres: &Postgres, scale: f64, selected: &str) -> Result<()> {
    let lists = lists::all(&routes::description());
    let unmeasured = print_unmeasured(&lists);
    let database = postgres.database("small").await?;
    let mut small = Deployment::prepare(&folder.join("small"), &database, Counts::SMALL, &lists).await?;
    let counts = Counts::large(scale);
    println!("large database: {counts}");
    let began = Instant::now();
    let database = postgres.database("large").await?;
    let mut large = Deployment::prepare(&folder.join("large"), &database, counts, &lists).await?;
    println!("inserted and analyzed in {:.0} s", began.elapsed().as_secs_f64());

    let shapes = shapes::all(&lists, selected);
    println!("{} shapes; '!' marks a shortfall", shapes.len());
    print_header();
    let mut rows = Vec::new();
    let mut invalid = 0;
    for shape in &shapes {
        match measure(&mut small, &mut large, &lists, shape).await? {
            Some(row) => {
                print_row(&lists, &row);
                rows.push(row);
            }
            None => invalid += 1,
        }
    }
    rows.sort_by(|one, other| other.score().total_cmp(&one.score()));
    let connections = large.connections().await?;
    println!();
    println!("the worst {REPEATED} again, each after 100 other shapes on each of {connections} connections");
    print_header();
    let mut repeated = Vec::new();
    for row in rows.iter().take(REPEATED) {
        serve_others(&mut large, &lists, &rows, &row.shape, connections).await?;
        if let Some(row) = measure(&mut small, &mut large, &lists, &row.shape).await? {
            print_row(&lists, &row);
            repeated.push(row);
        }
    }
    println!();
    println!("bounds: at most {MAX_RATIO} times the small database, above {NOISE_MS} ms, and at most {MAX_MS} ms");
    println!("{} shapes measured, {invalid} do not exist: an invalid combination, or no such page", rows.len());
    println!("shortfalls: {} of {}", shortfalls(&rows), rows.len());
    println!("shortfalls after other shapes: {} of {}", shortfalls(&repeated), repeated.len());
    println!("filters without values: {unmeasured}");
    Ok(())
}

fn shortfalls(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.is_shortfall()).count()
}

/// Prints the filters that have no values. Returns their number.
fn print_unmeasured(lists: &[List]) -> usize {
    let mut count = 0;
    for list in lists {
        for filter in list.filters.iter().filter(|filter| filter.samples.is_empty()) {
            println!("! {} has no values for the filter '{}'; add them to samples.rs", list.path, filter.name);
            count += 1;
        }
    }
    count
}
