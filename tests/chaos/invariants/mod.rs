//! What must be true at the end of a run, whatever failed meanwhile: one file for each promise.

pub mod answers;
pub mod converged;
pub mod counted;
pub mod delivered;
pub mod followed;
pub mod once;
pub mod quiet;
pub mod revoked;
mod sealed;
pub mod told;

use std::fmt;

use futures_util::future::{BoxFuture, LocalBoxFuture, ready};

use crate::{
    client::{Client, Entry},
    world::World,
};

/// A promise of the server's: what clients do to try it, and how to tell whether it was kept.
pub trait Invariant: Send + Sync {
    /// How many clients try it.
    fn clients(&self) -> usize {
        0
    }

    /// One thing that one client does. It is called again and again until the run is over; what it leaves
    /// unfinished, `check` may finish.
    fn act<'a>(&'a self, _client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }

    /// Whether it was tried often enough; else the run goes on when all faults have happened.
    fn is_tried(&self) -> bool {
        true
    }

    /// Looks at what clients were answered and at what the database holds. All faults are healed by now,
    /// and no client waits for an answer.
    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict>;
}

/// The end of a run.
pub struct End<'a> {
    pub world: &'a World,
    /// All that clients were answered, and what they asked in vain.
    pub log: Vec<Entry>,
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub figures: Vec<(&'static str, String)>,
    /// How the promise was broken, the first times.
    pub broken: Vec<String>,
    pub broken_count: usize,
}

/// So many are told; the others are counted.
const TOLD: usize = 10;

impl Verdict {
    pub fn figure(&mut self, name: &'static str, value: impl fmt::Display) {
        self.figures.push((name, value.to_string()));
    }

    pub fn require(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if kept {
            return;
        }
        self.broken_count += 1;
        if self.broken.len() < TOLD {
            self.broken.push(broken());
        }
    }
}
