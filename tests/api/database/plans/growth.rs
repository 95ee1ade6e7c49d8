//! The lists, filters and rows of `benches/growth`, which measures with them how long lists take.

#![allow(dead_code, clippy::print_stdout, reason = "shared with a benchmark, which uses more of it and prints")]

#[path = "../../../../benches/growth/lists.rs"]
pub mod lists;
#[path = "../../../../benches/growth/project.rs"]
pub mod project;
#[path = "../../../../benches/growth/samples.rs"]
mod samples;
#[path = "../../../../benches/growth/seed.rs"]
pub mod seed;
#[path = "../../../../benches/growth/shapes.rs"]
pub mod shapes;
#[path = "../../../../benches/growth/statements.rs"]
mod statements;

mod support {
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}
