//! Measures a request to both servers alternately, and prints the result.

use std::time::{Duration, Instant};

use crate::{
    deployment::Deployment,
    lists::List,
    shapes::Shape,
    support::{Result, median},
};

/// Maximum ratio of the times in the large and the small database.
pub const MAX_RATIO: f64 = 3.0;
/// Maximum time in the large database, in milliseconds.
pub const MAX_MS: f64 = 20.0;
/// Time in milliseconds up to which the ratio is mostly noise.
pub const NOISE_MS: f64 = 2.0;
/// Number of other shapes that a connection serves before a repeated measurement.
const OTHERS: usize = 100;
const ROUNDS: usize = 15;
/// Minimum number of rounds of a slow request.
const MIN_ROUNDS: usize = 3;
/// Time after which a slow request is not measured again.
const TIME_LIMIT: Duration = Duration::from_millis(1500);

/// Result of a measurement.
pub struct Row {
    pub shape: Shape,
    /// Number of items on the page.
    items: usize,
    /// Median time in the small database, in milliseconds.
    small_ms: f64,
    /// Median time in the large database, in milliseconds.
    large_ms: f64,
    /// Status of a response that was not 200.
    failure: Option<u16>,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.large_ms / self.small_ms
    }

    /// The time or the ratio, as a multiple of its bound. Above 1 for a shortfall.
    pub fn score(&self) -> f64 {
        if self.failure.is_some() {
            return f64::INFINITY;
        }
        let growth = if self.large_ms > NOISE_MS { self.ratio() / MAX_RATIO } else { 0.0 };
        growth.max(self.large_ms / MAX_MS)
    }

    /// Whether the request takes too long.
    pub fn is_shortfall(&self) -> bool {
        self.score() > 1.0
    }
}

/// Measures a request. None if the list has no such page, or the API rejects the combination of filters.
pub async fn measure(
    small: &mut Deployment,
    large: &mut Deployment,
    lists: &[List],
    shape: &Shape,
) -> Result<Option<Row>> {
    let list = &lists[shape.list];
    let Some(of_large) = large.request(list, shape).await? else { return Ok(None) };
    let of_small = match small.request(list, shape).await? {
        Some(request) => request,
        // The list is too short for a cursor.
        None => {
            let first = Shape { position: shape.position.first(), ..shape.clone() };
            small.request(list, &first).await?.ok_or("no request for a first page")?
        }
    };
    // The first round warms up.
    let (in_small, in_large) = (small.send(&of_small).await?, large.send(&of_large).await?);
    if in_small.status == 400 {
        return Ok(None);
    }
    let failure = [in_small.status, in_large.status].into_iter().find(|status| *status != 200);
    let items = in_large.items;
    if failure.is_some() {
        let (small_ms, large_ms) = (in_small.ms, in_large.ms);
        return Ok(Some(Row { shape: shape.clone(), items, small_ms, large_ms, failure }));
    }
    let (mut small_times, mut large_times) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while large_times.len() < MIN_ROUNDS || (large_times.len() < ROUNDS && began.elapsed() < TIME_LIMIT) {
        small_times.push(small.send(&of_small).await?.ms);
        large_times.push(large.send(&of_large).await?.ms);
    }
    let (small_ms, large_ms) = (median(&mut small_times), median(&mut large_times));
    Ok(Some(Row { shape: shape.clone(), items, small_ms, large_ms, failure: None }))
}

/// Sends 100 requests of other shapes, distributed over all lists, as often as the server has `connections` to its
/// database: they are used in turn. Leaves out slow requests.
pub async fn serve_others(
    large: &mut Deployment,
    lists: &[List],
    rows: &[Row],
    except: &Shape,
    connections: usize,
) -> Result<()> {
    let others = rows.iter().filter(|row| row.score() <= 1.0 && !row.shape.is_same(except));
    let mut others: Vec<&Shape> = others.map(|row| &row.shape).collect();
    // The rows are ordered by their times.
    others.sort_by_key(|shape| shape.list);
    let step = (others.len() / OTHERS).max(1);
    for _ in 0..connections {
        for shape in others.iter().step_by(step).take(OTHERS) {
            if let Some(request) = large.request(&lists[shape.list], shape).await? {
                large.send(&request).await?;
            }
        }
    }
    Ok(())
}

/// Prints the names of the columns.
pub fn print_header() {
    println!(
        "  {:<36} {:<64} {:<22} {:>5} {:>8} {:>8} {:>7}",
        "list", "filters", "page", "items", "ms small", "ms large", "ratio"
    );
}

/// Prints a result, with a mark if it is a shortfall.
pub fn print_row(lists: &[List], row: &Row) {
    let mark = if row.is_shortfall() { '!' } else { ' ' };
    let failure = row.failure.map_or_else(String::new, |status| format!(" status {status}"));
    println!(
        "{mark} {:<36} {:<64} {:<22} {:>5} {:>8.2} {:>8.2} {:>7.2}{failure}",
        lists[row.shape.list].path,
        row.shape.filters_text(),
        row.shape.position_text(),
        row.items,
        row.small_ms,
        row.large_ms,
        row.ratio()
    );
}
