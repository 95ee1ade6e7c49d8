//! What the server tells of itself, for Prometheus: [`requests`], [`process`], and what each slice counts on its own.
//! The page is put together when it is asked for ([`scrape`]), out of atomic numbers that are kept all along, so that
//! nothing waits for whoever reads it. The listener is the server's.
//!
//! To tell of something new:
//!
//! 1. Keep it beside what it is about, in atomics ([`histogram::Histogram`] for times), where the server's `App`
//!    reaches it. What only the database knows, a worker looks up when it is there anyway, and leaves in an atomic: a
//!    page never waits for the database.
//! 2. Implement [`text::Measured`] for it in the slice's `figures.rs`, as `usage` does.
//! 3. Add it to the list in [`scrape::page`], and the family to the table in docs/operate.md.
//!
//! Names begin with `cloudapi_` and the slice, and end in the unit (`_seconds`, `_bytes`), a counter's in `_total`.
//! A label's values are words of ours, a handful of them: never an id, a secret, or anything that a client chose. A
//! test holds all of that for every page it reads.

pub mod histogram;
pub mod process;
pub mod queue_depth;
pub mod requests;
pub mod scrape;
pub mod text;
