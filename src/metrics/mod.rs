//! Prometheus metrics of the server: [`requests`], [`process`], and the types that the metrics of each slice use.
//! `server::scrape` renders the page on request from atomic counters, so that no work waits for a reader.
//! `server::metrics` is the listener.
//!
//! To add a metric:
//!
//! 1. Keep it next to the code it measures, in atomics ([`histogram::Histogram`] for durations), reachable from the
//!    server's `App`. For values that only the database has, a worker that queries the database anyway stores them in
//!    an atomic: rendering a page never waits for the database.
//! 2. Implement [`exposition::Collector`] for it in the slice's `metrics.rs`, as `api::usage` does.
//! 3. Add it to the list in `server::scrape::render`, and the metric family to the table in docs/operate.md.
//!
//! Names begin with `cloudapi_` and the slice, and end in the unit (`_seconds`, `_bytes`); the name of a counter ends
//! in `_total`. Label values are from a small fixed set: never an ID, a secret, or text from a client. A test checks
//! these rules on every page that it reads.

pub mod exposition;
pub mod histogram;
pub mod process;
pub mod queue_depth;
pub mod requests;
