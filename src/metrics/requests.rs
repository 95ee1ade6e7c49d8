//! Metrics of requests for each route: count, status and duration.
//!
//! Recording a request is a lookup by the route's index in the table and a few atomic additions. All counters are
//! created when the server starts, so clients cannot create new ones.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{Method, StatusCode};

use super::{
    exposition::{Collector, Exposition, Label},
    histogram::Histogram,
};
use crate::base::{error::Code, runtime::request::Route};

/// Upper bounds of the duration buckets: from responses out of memory up to the timeout.
static BOUNDS: [Duration; 15] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Methods with a label value. A client can send any text as a method, even a secret, so all others become `other`.
const METHODS: [(Method, &str); 9] = [
    (Method::GET, "GET"),
    (Method::HEAD, "HEAD"),
    (Method::POST, "POST"),
    (Method::PATCH, "PATCH"),
    (Method::DELETE, "DELETE"),
    (Method::OPTIONS, "OPTIONS"),
    (Method::PUT, "PUT"),
    (Method::CONNECT, "CONNECT"),
    (Method::TRACE, "TRACE"),
];
const OTHER_METHOD: &str = "other";
/// Label value of requests that were answered before a route was found.
pub const NO_ROUTE: &str = "none";
/// Range of status codes: the first one, and how many there are.
const FIRST_STATUS: u16 = 100;
const STATUSES: u16 = 500;
/// Statuses that each route exports from the start with 0, so that `rate` sees the first increase.
const FAULTS: [StatusCode; 2] = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE];

/// Request counts of one server.
#[derive(Debug)]
pub struct Requests {
    /// Rows in the order of the route table.
    routes: OnceLock<Box<[Row]>>,
    /// Rows of requests without a route, by method.
    unmatched: Box<[Row]>,
    /// Counts of problems, in the order of [`Code::ALL`].
    problems: Box<[AtomicU64]>,
    in_flight: AtomicU64,
    abandoned: AtomicU64,
}

/// Description of a route.
#[derive(Debug)]
pub struct RouteInfo {
    /// Method.
    pub method: Method,
    /// Path template.
    pub template: &'static str,
    /// Status of a successful response.
    pub status: u16,
}

/// Counts of one route.
#[derive(Debug)]
struct Row {
    method: &'static str,
    template: &'static str,
    /// Success status, exported even if its count is 0.
    expected: Option<u16>,
    statuses: Box<[AtomicU64]>,
    times: Histogram,
}

impl Row {
    fn new(method: &'static str, template: &'static str, expected: Option<u16>) -> Self {
        let statuses = zeroed_counters(STATUSES.into());
        Self { method, template, expected, statuses, times: Histogram::new(&BOUNDS) }
    }

    fn add(&self, status: StatusCode, time: Duration) {
        // The server sends no status above the range. If one occurs, it counts as the last.
        let index = (status.as_u16() - FIRST_STATUS).min(STATUSES - 1);
        if let Some(number) = self.statuses.get(usize::from(index)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
        self.times.observe(time);
    }

    fn labels(&self) -> [Label<'static>; 2] {
        [("method", self.method), ("route", self.template)]
    }

    /// Returns each exported status and its count.
    fn status_counts(&self) -> impl Iterator<Item = (u16, u64)> {
        let is_expected = |status| {
            self.expected.is_some_and(|expected| status == expected || FAULTS.iter().any(|fault| *fault == status))
        };
        (FIRST_STATUS..)
            .zip(self.statuses.iter().map(|number| number.load(Ordering::Relaxed)))
            .filter(move |(status, count)| *count > 0 || is_expected(*status))
    }
}

impl Default for Requests {
    fn default() -> Self {
        let methods = METHODS.iter().map(|(_, name)| *name).chain([OTHER_METHOD]);
        Self {
            routes: OnceLock::new(),
            unmatched: methods.map(|method| Row::new(method, NO_ROUTE, None)).collect(),
            problems: zeroed_counters(Code::ALL.len()),
            in_flight: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        }
    }
}

impl Requests {
    /// Sets the routes, in the order of the route table.
    pub fn set_routes(&self, routes: impl Iterator<Item = RouteInfo>) {
        let row =
            |RouteInfo { method, template, status }: RouteInfo| Row::new(method_name(&method), template, Some(status));
        let _ = self.routes.set(routes.map(row).collect());
    }

    /// Records the arrival of a request. The request is in flight until the returned guard is dropped.
    pub fn start(self: &Arc<Self>) -> RequestInFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        RequestInFlight { requests: Arc::clone(self), is_finished: false }
    }

    fn row(&self, route: Option<&Route>, method: &Method) -> Option<&Row> {
        match route {
            Some(route) => self.routes.get()?.get(route.index),
            None => self.unmatched.get(method_index(method)),
        }
    }
}

/// Guard of a request in flight.
#[derive(Debug)]
pub struct RequestInFlight {
    requests: Arc<Requests>,
    is_finished: bool,
}

impl RequestInFlight {
    /// Records the response after `time`, and its problem code, if any.
    pub fn finish(
        &mut self,
        route: Option<&Route>,
        method: &Method,
        status: StatusCode,
        code: Option<Code>,
        time: Duration,
    ) {
        self.is_finished = true;
        if let Some(row) = self.requests.row(route, method) {
            row.add(status, time);
        }
        if let Some(number) = code.and_then(|code| self.requests.problems.get(code as usize)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.requests.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.is_finished {
            self.requests.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Collector for Requests {
    fn collect(&self, out: &mut Exposition) {
        let has_some = |row: &&Row| row.status_counts().next().is_some();
        let unmatched = || self.unmatched.iter().filter(has_some);
        let rows = || self.routes.get().into_iter().flatten().chain(unmatched());
        let mut family = out.counter("cloudapi_http_requests_total", "Requests with a response.");
        for row in rows() {
            for (status, count) in row.status_counts() {
                let [method, route] = row.labels();
                family = family.sample(&[method, route, ("status", &status.to_string())], count);
            }
        }
        let help = "Time from a request's head to the head of its response.";
        let mut family = out.histogram("cloudapi_http_request_duration_seconds", help);
        for row in rows() {
            family = family.histogram_sample(&row.labels(), &row.times);
        }
        let mut family = out.counter("cloudapi_http_problems_total", "Error responses, by problem code.");
        for (code, number) in Code::ALL.iter().zip(&self.problems) {
            family = family.sample(&[("code", code.as_str())], number.load(Ordering::Relaxed));
        }
        out.gauge("cloudapi_http_requests_in_flight", "Requests in flight.")
            .value(self.in_flight.load(Ordering::Relaxed));
        out.counter(
            "cloudapi_http_requests_abandoned_total",
            "Requests whose client disconnected before the response.",
        )
        .value(self.abandoned.load(Ordering::Relaxed));
    }
}

/// Returns the label value of a method: its name, if HTTP defines it.
pub fn method_name(method: &Method) -> &'static str {
    METHODS.get(method_index(method)).map_or(OTHER_METHOD, |(_, name)| name)
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|(known, _)| known == method).unwrap_or(METHODS.len())
}

fn zeroed_counters(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_codes_are_in_declaration_order() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index, "{code}");
        }
    }
}
