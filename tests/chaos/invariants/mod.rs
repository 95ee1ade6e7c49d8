//! What must be true at the end of a run, regardless of the faults: one file for each invariant.

pub mod converged;
pub mod counted;
pub mod delivered;
pub mod followed;
pub mod idempotent;
pub mod quiet;
pub mod recorded;
pub mod responses;
pub mod revoked;
mod sealed;

use std::fmt;

use futures_util::future::{BoxFuture, LocalBoxFuture, ready};

use crate::{
    harness::client::{Client, Entry},
    servers::cluster::Cluster,
};

/// A guarantee of the server: how clients exercise it, and how to check that it holds.
pub trait Invariant: Send + Sync {
    /// How many clients exercise it.
    fn clients(&self) -> usize {
        0
    }

    /// One action of one client. It is called repeatedly until the run is over. `check` may finish what it leaves
    /// unfinished.
    fn act<'a>(&'a self, _client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }

    /// Whether it was exercised often enough. If not, the run continues after all faults have happened.
    fn is_exercised(&self) -> bool {
        true
    }

    /// Compares the responses that clients received with the database. All faults are healed by now, and no client
    /// waits for a response.
    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict>;
}

/// The end of a run.
pub struct RunEnd<'a> {
    pub cluster: &'a Cluster,
    /// All responses, and all requests without one.
    pub log: Vec<Entry>,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Verdict {
    pub metrics: Vec<(&'static str, String)>,
    /// The first violations.
    pub broken: Vec<String>,
    pub broken_count: usize,
}

/// How many violations are reported in full; the others are counted.
const MAX_REPORTED: usize = 10;

impl Verdict {
    pub fn record(&mut self, name: &'static str, value: impl fmt::Display) {
        self.metrics.push((name, value.to_string()));
    }

    pub fn require(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if holds {
            return;
        }
        self.broken_count += 1;
        if self.broken.len() < MAX_REPORTED {
            self.broken.push(broken());
        }
    }
}
