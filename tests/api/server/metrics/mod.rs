//! `/metrics`: Prometheus metrics of a server, on a separate listener.

mod internals;
mod listener;
mod requests;

use crate::support::prometheus::Exposition;

async fn scrape(url: &str) -> Exposition {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Exposition::parse(&answer.text().await.unwrap())
}
