//! What readers received, and what they should have received.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use cloudapi::base::id::EventId;
use memchr::memmem;

use crate::support::Result;

/// Event by its type and subject.
pub type Name = (String, String);

/// Event that a reader received.
pub struct Arrival {
    pub id: EventId,
    pub name: Name,
    pub at: Instant,
}

impl Arrival {
    /// Whether a write of this benchmark caused the event. The sealer causes others: a checkpoint of each chain.
    pub fn is_measured(&self) -> bool {
        self.name.0.starts_with("token.")
    }
}

/// Write that causes one event.
pub struct Write {
    pub project: usize,
    pub name: Name,
    /// Time when the request was due.
    pub sent: Instant,
    pub responded: Instant,
}

/// Removes the complete messages from `bytes`. Returns the events among them.
pub fn take_events(bytes: &mut Vec<u8>) -> Result<Vec<Arrival>> {
    let (mut events, mut begin) = (Vec::new(), 0);
    // Data is one line, and a chunk's size ends with CRLF, so only the end of a message matches.
    while let Some(length) = memmem::find(&bytes[begin..], b"\n\n") {
        let message = &bytes[begin..begin + length];
        begin += length + 2;
        if let Some(kind) = between(message, b"\nevent: ", b'\n') {
            let id = between(message, b"id: ", b'\n').ok_or("an event without an ID")?;
            let subject = between(message, b"\"subject\":\"", b'"').ok_or_else(|| format!("no subject: {kind}"))?;
            let name = (kind.to_owned(), subject.to_owned());
            events.push(Arrival { id: id.parse().map_err(|_| "not an ID")?, name, at: Instant::now() });
        }
    }
    bytes.drain(..begin);
    Ok(events)
}

fn between<'a>(message: &'a [u8], begin: &[u8], end: u8) -> Option<&'a str> {
    let rest = &message[memmem::find(message, begin)? + begin.len()..];
    std::str::from_utf8(rest.split(|byte| *byte == end).next()?).ok()
}

/// Comparison of what was written with what all readers received.
#[derive(Default)]
pub struct Outcome {
    pub lost: usize,
    /// Events that a reader received twice, or that belong to another project.
    pub unexpected: usize,
    pub out_of_order: usize,
    /// Number of different events that readers received, with those that are not measured.
    pub events: usize,
    /// Sorted times until an event reached a reader, from its request and from its response.
    pub since_request: Vec<Duration>,
    pub since_response: Vec<Duration>,
}

impl Outcome {
    /// `readers` has the project of each reader, with what it received.
    pub fn new<'a>(writes: &[Write], readers: impl Iterator<Item = (usize, &'a [Arrival])>) -> Self {
        let mut of_projects: HashMap<usize, HashMap<&Name, &Write>> = HashMap::new();
        for write in writes {
            of_projects.entry(write.project).or_default().insert(&write.name, write);
        }
        let (mut outcome, mut ids) = (Self::default(), HashSet::new());
        for (project, arrivals) in readers {
            let expected = of_projects.entry(project).or_default();
            let mut received = HashSet::new();
            ids.extend(arrivals.iter().map(|arrival| arrival.id.as_u128()));
            for arrival in arrivals.iter().filter(|arrival| arrival.is_measured()) {
                match expected.get(&arrival.name) {
                    Some(write) if received.insert(&arrival.name) => {
                        outcome.since_request.push(arrival.at.saturating_duration_since(write.sent));
                        outcome.since_response.push(arrival.at.saturating_duration_since(write.responded));
                    }
                    _ => outcome.unexpected += 1,
                }
            }
            outcome.lost += expected.len() - received.len();
            outcome.out_of_order += arrivals.windows(2).filter(|pair| pair[0].id >= pair[1].id).count();
        }
        outcome.events = ids.len();
        outcome.since_request.sort_unstable();
        outcome.since_response.sort_unstable();
        outcome
    }
}

/// The median, the 99th percentile and the maximum of sorted times, in milliseconds.
pub fn percentiles(times: &[Duration]) -> String {
    let at = |share: f64| {
        let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
        times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    format!("median {:.0}, p99 {:.0}, max {:.0}", at(0.5), at(0.99), at(1.0))
}
