//! `/metrics`: Prometheus metrics of a server, on a separate listener.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use cloudapi::{
    api::usage::counting::{flush, meter::MeterOptions},
    http::layers::edge::EdgeLimits,
    server::state::AppOptions,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Identity, TestApp,
    binary::{Deployment, Server},
    cluster, eventually,
    prometheus::Exposition,
    raw::{connect, edge_options, read_response, read_to_end, send},
};

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn scrape(url: &str) -> Exposition {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Exposition::parse(&answer.text().await.unwrap())
}

/// Base URL of the metrics listener of a server process.
fn metrics_url(server: &Server) -> String {
    let line = server.wait_for_error("metrics are at ");
    let (_, rest) = line.split_once("metrics are at ").unwrap();
    rest.split_once("/metrics").unwrap().0.to_owned()
}

type Counts = BTreeMap<(String, String, String), f64>;

/// Requests counted between two scrapes, by method, route and status.
fn requests(before: &Exposition, after: &Exposition) -> Counts {
    let grown = after.since(before, "cloudapi_http_requests_total");
    let named = |mut labels: BTreeMap<String, String>| {
        let mut take = |name| labels.remove(name).unwrap();
        (take("method"), take("route"), take("status"))
    };
    grown.into_iter().map(|(labels, count)| (named(labels), count)).collect()
}

fn counts<const N: usize>(expected: [(&str, &str, &str, u32); N]) -> Counts {
    let text = str::to_owned;
    expected.map(|(method, route, status, count)| ((text(method), text(route), text(status)), f64::from(count))).into()
}

#[tokio::test]
async fn requests_are_counted_and_timed_by_route_and_status() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let before = scrape(&url).await;

    for _ in 0..3 {
        key.get("/v1/projects").await.ok();
    }
    key.request("HEAD", "/v1/projects").send().await;
    key.get("/v1/keys/key_404").await.problem(404, "not_found");
    key.get("/v1/keys/key_405").await.problem(404, "not_found");
    key.post("/v1/tokens", json!({})).await.problem(422, "validation_failed");
    app.anonymous().get("/v1/projects").await.problem(401, "missing_credentials");
    app.anonymous().get("/nowhere").await.problem(404, "route_not_found");
    app.anonymous().request("PUT", "/v1/projects").send().await.problem(405, "method_not_allowed");
    app.anonymous().request("OPTIONS", "/v1/keys").send().await;

    let after = scrape(&url).await;
    let expected = counts([
        ("GET", "/v1/projects", "200", 4),
        ("GET", "/v1/projects", "401", 1),
        ("GET", "/v1/keys/{key_id}", "404", 2),
        ("POST", "/v1/tokens", "422", 1),
        ("GET", "none", "404", 1),
        ("PUT", "none", "405", 1),
        ("OPTIONS", "none", "204", 1),
    ]);
    assert_eq!(requests(&before, &after), expected);

    let timed = after.since(&before, "cloudapi_http_request_duration_seconds_count");
    let mut by_route: BTreeMap<_, f64> = BTreeMap::new();
    for ((method, route, _), count) in expected {
        *by_route.entry(BTreeMap::from([("method".into(), method), ("route".into(), route)])).or_default() += count;
    }
    assert_eq!(timed, by_route);
    let took = after.since(&before, "cloudapi_http_request_duration_seconds_sum");
    assert!(took.len() == timed.len() && took.values().all(|seconds| *seconds < 10.0), "{took:?}");

    let problems = after.since(&before, "cloudapi_http_problems_total");
    let codes: Vec<_> = problems.iter().map(|(labels, count)| (labels["code"].as_str(), *count)).collect();
    assert_eq!(
        codes,
        [
            ("method_not_allowed", 1.0),
            ("missing_credentials", 1.0),
            ("not_found", 2.0),
            ("route_not_found", 1.0),
            ("validation_failed", 1.0)
        ]
    );
    assert_eq!(after.get("cloudapi_http_requests_in_flight", &[]), 0.0);
    assert_eq!(after.get("cloudapi_http_requests_abandoned_total", &[]), 0.0);
}

#[tokio::test]
async fn series_stay_the_same_and_contain_no_id_or_secret_for_any_requests() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let mut chosen = vec![owner.secret.clone(), owner.id.clone(), owner.project.clone(), owner.user_id.to_string()];
    chosen.push(owner.email.clone());
    let mut before = None;
    for round in 0..20 {
        let key = owner.key().await;
        let token = key.token(&["users:read"]).await;
        token.get("/v1/users").await.ok();
        key.get(&format!("/v1/keys/{}", key.id)).await.ok();
        key.get(&format!("/v1/tokens/tok_{round}")).await.problem(404, "not_found");
        let path = format!("/v1/guess-{round}/{}", key.secret);
        chosen.push(app.anonymous().get(&path).await.header("x-request-id").unwrap().to_owned());
        let guess = format!("/v1/users?guess={round}");
        app.anonymous().request(&format!("GUESS{round}"), &guess).send().await.problem(405, "method_not_allowed");
        token.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
        key.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        chosen.extend([key.secret, key.id, token.secret, token.id, path, format!("GUESS{round}")]);
        let page = scrape(&url).await;
        let series: Vec<_> = page.series.into_keys().collect();
        assert_eq!(*before.get_or_insert_with(|| series.clone()), series, "round {round}");
    }
    let page = scrape(&url).await;
    for chosen in &chosen {
        assert!(!page.text.contains(chosen.as_str()), "{chosen} is on the page");
    }
    assert!(app.leak_detector.leaks_in(&page.text).is_empty());
    for value in page.label_values() {
        let prefixes = ["proj_", "key_", "tok_", "usr_", "sess_", "inv_", "req_", "aud_", "evt_", "wh_", "dlv_"];
        let is_id = |prefix: &&str| {
            let digits = value.strip_prefix(*prefix);
            digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        assert!(!prefixes.iter().any(is_id) && value.len() < 64, "{value}");
    }
}

#[tokio::test]
async fn api_and_metrics_have_separate_listeners() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    app.anonymous().get("/metrics").await.problem(404, "route_not_found");
    let ask = async |method: &str, path: &str| {
        let request = app.http.request(method.parse().unwrap(), format!("{url}{path}"));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned()))
    };
    for path in ["/", "/metrics/", "/metrics/x", "/v1/projects", "/healthz", "/openapi.json"] {
        assert_eq!(ask("GET", path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
        assert_eq!(ask(method, "/metrics").await, (405, Some("GET, HEAD".into())), "{method}");
    }
    assert_eq!(ask("HEAD", "/metrics").await.0, 200);
    assert_eq!(ask("GET", "/metrics?name=x").await.0, 200);
    // Scrapes are not counted as API requests.
    let page = scrape(&url).await;
    assert_eq!(
        page.get("cloudapi_http_requests_total", &[("method", "GET"), ("route", "none"), ("status", "404")]),
        1.0
    );
}

#[tokio::test]
async fn garbage_and_slow_clients_do_not_block_scrapes() {
    let app = TestApp::start_with(edge_options(|limits| limits.head_timeout = Duration::from_secs(1))).await;
    let url = app.serve_metrics().await;
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"GET\r\n\r\n", b"\0\0\0\0", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = connect(&url).await;
        send(&mut stream, garbage).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let mut long = connect(&url).await;
    send(&mut long, format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(200_000))).await;
    assert!(read_to_end(&mut long).await.starts_with("HTTP/1.1 431 "));
    // More connections than the listener has room for. None finishes its request head.
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&url).await;
        send(&mut stream, "GET /metrics HTTP/1.1\r\nhost").await;
        slow.push(stream);
    }
    let mut quick = connect(&url).await;
    send(&mut quick, SCRAPE).await;
    assert!(read_to_end(&mut quick).await.starts_with("HTTP/1.1 200 "));
    for mut stream in slow {
        assert_eq!(read_to_end(&mut stream).await, "");
    }
}

#[tokio::test]
async fn cache_lease_and_revocation_metrics_are_exported() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    if app.node.credentials.is_none() {
        let page = scrape(&url).await;
        assert!(!page.text.contains("cloudapi_auth_cache"));
        return;
    }
    let losses = |page: &Exposition| page.get("cloudapi_auth_lease_losses_total", &[]);
    let (before, after) = eventually("all requests under one lease", async || {
        let key = owner.key().await;
        app.lease().await;
        owner.get("/v1/projects").await.ok();
        let before = scrape(&url).await;
        for _ in 0..3 {
            key.get("/v1/projects").await.ok();
        }
        owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        let after = scrape(&url).await;
        // On a machine that stalls for three seconds, the node must lose its lease.
        (losses(&before) == losses(&after)).then_some((before, after))
    })
    .await;
    let grown = |name| after.get(name, &[]) - before.get(name, &[]);
    assert_eq!(grown("cloudapi_auth_cache_hits_total"), 3.0);
    assert_eq!(grown("cloudapi_auth_cache_misses_total"), 1.0);
    assert_eq!(grown("cloudapi_auth_cache_entries"), 1.0);
    assert_eq!(grown("cloudapi_auth_recall_duration_seconds_count"), 1.0);
    let recalls = "cloudapi_auth_recalls_total";
    let by = |page: &Exposition, what| page.get(recalls, &[("confirmed_by", what)]);
    let confirmed = ["ack", "time"].map(|what| by(&after, what) - by(&before, what));
    assert_eq!(confirmed, [1.0, 0.0]);
    assert_eq!(after.get("cloudapi_auth_lease_held", &[]), 1.0);

    // Without its table, the node loses its lease.
    sqlx::query("ALTER TABLE auth_nodes RENAME TO auth_nodes_gone").execute(&app.db).await.unwrap();
    let page = eventually("the loss of the lease", async || {
        let page = scrape(&url).await;
        (page.get("cloudapi_auth_lease_held", &[]) == 0.0).then_some(page)
    })
    .await;
    let lost = async || (losses(&scrape(&url).await) == losses(&after) + 1.0).then_some(());
    eventually("the count of lease losses", lost).await;
    assert_eq!(page.find("cloudapi_auth_lease_held", &[]), Some(0.0));
}

#[tokio::test]
async fn flush_metrics_are_exported_for_success_and_failure() {
    let app = TestApp::start_with(AppOptions {
        meter: MeterOptions { slots: 64, ..MeterOptions::default() },
        ..AppOptions::default()
    })
    .await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    app.flush_usage().await;
    let begun = scrape(&url).await;
    let rows = "cloudapi_usage_flushed_rows_total";
    // The server also flushes in the background. Between the first two requests, this sends their row twice.
    let after = eventually("one flush of all three requests", async || {
        app.flush_usage().await;
        let before = scrape(&url).await;
        key.get("/v1/users").await.ok();
        key.get("/v1/users").await.ok();
        key.get("/v1/projects").await.ok();
        app.flush_usage().await;
        let after = scrape(&url).await;
        let sent = after.get(rows, &[]) - before.get(rows, &[]);
        assert!(sent == 2.0 || sent == 3.0, "{sent}");
        (sent == 2.0).then_some(after)
    })
    .await;
    let now = app.clock.now().unix_seconds() as f64;
    let last = after.get("cloudapi_usage_last_flush_timestamp_seconds", &[]);
    assert!((now - 20.0..=now + 1.0).contains(&last), "{last} at {now}");
    assert_eq!(after.get("cloudapi_usage_journal_slots", &[]), 64.0);
    let used = "cloudapi_usage_journal_slots_used";
    assert_eq!(after.get(used, &[]) - begun.get(used, &[]), 2.0);
    assert_eq!(after.get("cloudapi_usage_flush_failures_total", &[]), 0.0);
    assert_eq!(after.get("cloudapi_usage_lost_requests_total", &[]), 0.0);

    app.db.close().await;
    flush::flush_or_log(&app.meter, &app.db, &app.clock).await;
    let failed = scrape(&url).await;
    assert!(failed.get("cloudapi_usage_flush_failures_total", &[]) >= 1.0);
    assert_eq!(failed.get(rows, &[]), after.get(rows, &[]));
}

#[tokio::test]
async fn requests_waiting_for_a_database_connection_are_counted() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let used = |page: &Exposition| page.get("cloudapi_db_connections", &[("state", "used")]);
    let waiting = "cloudapi_db_acquires_waiting";
    let most = scrape(&url).await.get("cloudapi_db_connections_max", &[]) as usize;
    let mut held = Vec::new();
    for _ in 0..most {
        held.push(app.db.acquire().await.unwrap());
    }
    let before = scrape(&url).await;
    assert_eq!(used(&before), most as f64);
    let (reply, ()) = tokio::join!(owner.get("/v1/projects"), async {
        eventually("a waiting request", async || (scrape(&url).await.get(waiting, &[]) >= 1.0).then_some(())).await;
        held.clear();
    });
    reply.ok();
    let grown = async || {
        let page = scrape(&url).await;
        let acquires = "cloudapi_db_acquire_duration_seconds_count";
        (page.get(waiting, &[]) == 0.0 && page.get(acquires, &[]) > before.get(acquires, &[])).then_some(())
    };
    eventually("no waiting request", grown).await;
}

#[tokio::test]
async fn in_flight_and_abandoned_requests_are_counted() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let flight = async || {
        let page = scrape(&url).await;
        let numbers = ["in_flight", "abandoned_total"];
        numbers.map(|name| page.get(&format!("cloudapi_http_requests_{name}"), &[]))
    };
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let mut stream = connect(&app.url).await;
    let head = format!("GET /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", owner.secret);
    send(&mut stream, head).await;
    eventually("one request in flight", async || (flight().await == [1.0, 0.0]).then_some(())).await;
    assert!(scrape(&url).await.get("cloudapi_http_connections", &[]) >= 1.0);
    drop(stream);
    eventually("one abandoned request", async || (flight().await == [0.0, 1.0]).then_some(())).await;
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn process_metrics_and_limits_are_exported() {
    let app = TestApp::start_with(edge_options(|limits: &mut EdgeLimits| limits.max_requests = 77)).await;
    let url = app.serve_metrics().await;
    let page = scrape(&url).await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(page.find("cloudapi_build_info", &[("version", version)]), Some(1.0));
    assert_eq!(page.get("cloudapi_serving", &[]), 1.0);
    assert_eq!(page.get("cloudapi_http_requests_max", &[]), 77.0);
    let now = app.clock.now().unix_seconds() as f64;
    assert!((now - 60.0..=now + 1.0).contains(&page.get("process_start_time_seconds", &[])));
    assert!(page.get("process_cpu_seconds_total", &[]) > 0.0);
    if Path::new("/proc/self/status").exists() {
        let memory = page.get("process_resident_memory_bytes", &[]);
        assert!((1e6..1e11).contains(&memory) && memory < page.get("process_virtual_memory_bytes", &[]), "{memory}");
        assert!(page.get("process_threads", &[]) >= 2.0);
        let (open, most) = (page.get("process_open_fds", &[]), page.get("process_max_fds", &[]));
        assert!((4.0..most).contains(&open), "{open} of {most}");
    }
}

#[tokio::test]
async fn metrics_are_served_during_drain_and_end_with_the_server() {
    let deployment = Deployment::new();
    let mut serve = deployment.command(&["serve"]);
    serve.env("CLOUDAPI_DRAIN_DELAY_SECONDS", "3600");
    let server = Server::start(serve);
    let url = metrics_url(&server);
    // A connection that stays open, as Prometheus uses.
    let mut kept = connect(&url).await;
    send(&mut kept, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(read_response(&mut kept).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(scrape(&url).await.get("cloudapi_serving", &[]), 1.0);
    server.signal(Signal::SIGTERM);
    eventually("the server to drain", async || (scrape(&url).await.get("cloudapi_serving", &[]) == 0.0).then_some(()))
        .await;
    server.end(Signal::SIGTERM).expect_success();
    assert_eq!(read_to_end(&mut kept).await, "");
    assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).await.is_err());
}

#[tokio::test]
async fn metrics_can_be_turned_off_and_an_unavailable_address_is_an_error() {
    let database = cluster::url(&cluster::empty_database().await);
    let deployment = Deployment::new();
    let serve = |setting: Option<&str>| {
        let mut command = deployment.command(&["serve"]);
        command.env("DATABASE_URL", &database);
        match setting {
            Some(setting) => command.env("CLOUDAPI_METRICS_LISTEN", setting),
            None => command.env_remove("CLOUDAPI_METRICS_LISTEN"),
        };
        Server::try_start(command)
    };
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();
    for wrong in [taken.1.as_str(), "192.0.2.1:9464", "nonsense", "94640", "OFF", ""] {
        let Err(said) = serve(Some(wrong)) else { panic!("served with metrics on {wrong:?}") };
        let mentioned: Vec<_> = said.lines().filter(|line| line.starts_with("cloudapi: ")).collect();
        let is_clear = |line: &str| line.contains("CLOUDAPI_METRICS_LISTEN (--metrics-listen)") && line.contains("off");
        assert!(matches!(mentioned[..], [line] if is_clear(line)), "{wrong:?}: {said}");
    }
    let quiet = serve(Some("off")).unwrap().end(Signal::SIGTERM);
    quiet.expect_success();
    assert!(!quiet.errors.iter().any(|line| line.contains("metrics")), "{:#?}", quiet.errors);

    // Without a setting, a second server on the machine starts without metrics. This bind may fail: then another
    // process holds the port.
    let _taken = TcpListener::bind("127.0.0.1:9464").await;
    let server = serve(None).unwrap();
    let line = server.wait_for_error("metrics are not served");
    assert!(line.contains("WARN") && line.contains("CLOUDAPI_METRICS_LISTEN") && line.contains("off"), "{line}");
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn docs_list_every_metric_family_and_no_other() {
    let app = TestApp::start_with(AppOptions::default()).await;
    if app.node.credentials.is_none() {
        return;
    }
    let page = scrape(&app.serve_metrics().await).await;
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    let is_part = |character: char| character.is_ascii_lowercase() || character == '_';
    let words = docs.split(|character| !is_part(character));
    let mut mentioned: Vec<&str> = words
        .filter(|word| (word.starts_with("cloudapi_") || word.starts_with("process_")) && word.len() > 9)
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    mentioned.sort_unstable();
    mentioned.dedup();
    let families: Vec<&str> = page.families.keys().map(String::as_str).collect();
    assert_eq!(mentioned, families);
}
