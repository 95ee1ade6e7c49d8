//! Measures the cost of recording a request for `/metrics`, and of its trace context.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::http::{Method, StatusCode};
use cloudapi::{
    base::runtime::{request::Route, trace::TraceContext},
    metrics::requests::{Requests, RouteInfo},
};

use crate::support::median;

const ROUTES: usize = 50;
const CALLS: usize = 2_000_000;
const ROUNDS: usize = 15;

/// Measures one request, next to the minimum number of atomic additions: two for requests in progress, and one each for
/// status, class and sum.
pub fn run() {
    let requests = Arc::new(Requests::default());
    let named = |_| RouteInfo { method: Method::GET, template: "/v1/things/{thing_id}", status: 200 };
    requests.set_routes((0..ROUTES).map(named));
    let bare: Vec<AtomicU64> = (0..ROUTES * 3 + 1).map(|_| AtomicU64::new(0)).collect();
    let record = |index: usize| {
        let route = Route { template: "/v1/things/{thing_id}", number: 0, index };
        let mut in_flight = requests.start();
        let took = Duration::from_micros(black_box(80));
        in_flight.finish(black_box(Some(&route)), &Method::GET, black_box(StatusCode::OK), None, took);
    };
    let add = |index: usize| {
        let in_flight = &bare[ROUTES * 3];
        in_flight.fetch_add(1, Ordering::Relaxed);
        for number in &bare[index * 3..][..3] {
            number.fetch_add(black_box(1), Ordering::Relaxed);
        }
        in_flight.fetch_sub(1, Ordering::Relaxed);
    };
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    println!("Recording a request on {ROUTES} routes, next to the minimum of five additions");
    for threads in [1, 2] {
        println!(
            "  {threads} threads: {:.0} ns, bare {:.0} ns",
            median_of_rounds(threads, record),
            median_of_rounds(threads, add)
        );
    }
    let begun = median_of_rounds(1, |_| {
        black_box(TraceContext::new_root());
    });
    let followed = median_of_rounds(1, |_| {
        black_box(TraceContext::child_of(black_box(given)));
    });
    println!("  new trace: {begun:.0} ns; continued trace of a client: {followed:.0} ns");
}

/// Nanoseconds per call and thread, in the median round.
fn median_of_rounds(threads: usize, call: impl Fn(usize) + Sync) -> f64 {
    let round = || {
        let began = Instant::now();
        thread::scope(|scope| {
            for thread in 0..threads {
                let call = &call;
                scope.spawn(move || (0..CALLS).for_each(|turn| call((turn * 7 + thread) % ROUTES)));
            }
        });
        began.elapsed().as_secs_f64() * 1e9 / CALLS as f64
    };
    round();
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    median(&mut rounds)
}
