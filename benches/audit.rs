//! Measures the cost of an audit entry for a write, next to the same server without an audit trail, and how many
//! entries are sealed per second if many are staged. Run with `cargo bench --bench audit`; `-- writes` or `-- sealing`
//! runs a part.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{
    env,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cloudapi::{
    api::usage::counting::flush,
    audit::{
        chain::checkpoint::Signer,
        sealing::{SealOutcome, Sealer},
    },
    base::{
        runtime::{clock::Clock, lifecycle::Phase},
        server_key::ServerKey,
    },
    db::{self, Pool},
    server::{
        self,
        state::{App, AppOptions},
    },
};
use serde_json::json;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use support::{
    POOL, Result, Server, Spread, bootstrap,
    load::{self, CONNECTIONS, Client, JSON, Requests, request, text},
    postgres::Postgres,
};

const ROUNDS: usize = 24;
const ROUND: Duration = Duration::from_secs(2);
/// How many entries are staged when sealing is measured.
const STAGED: i64 = 200_000;
const TOKENS: &str = "/v1/tokens";
const BODY: &str = r#"{"name":"ci-token","scopes":["users:read","usage:read"]}"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [server, database] = arguments.as_slice()
        && server == "--server"
    {
        return runtime.block_on(serve(database));
    }
    let is_selected = |part: &str| {
        let parts: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        parts.is_empty() || parts.iter().any(|wanted| *wanted == part)
    };
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    if is_selected("sealing") {
        runtime.block_on(async { sealing(&postgres.database("sealing").await?).await })?;
    }
    if is_selected("writes") {
        let of = |name| runtime.block_on(postgres.database(name));
        writes(folder.path(), &of("told")?, &of("untold")?)?;
    }
    Ok(())
}

/// Measures how fast staged entries are sealed, by one server that does nothing else.
async fn sealing(database: &str) -> Result<()> {
    let pool = db::pool(db::options_from_url(database)?, 2);
    db::prepare(&pool).await?;
    println!("sealing {STAGED} staged entries");
    for projects in [1, 1000] {
        stage(&pool, projects).await?;
        let signer = Arc::new(Signer::new(&ServerKey::generate()));
        let mut sealer =
            Sealer::new(&pool, Clock::system(), signer, Arc::default(), cloudapi::api::webhooks::repo::enqueue);
        let began = Instant::now();
        while sealer.seal().await? == SealOutcome::More {}
        let rate = STAGED as f64 / began.elapsed().as_secs_f64();
        println!("  in {projects} projects: {rate:.0}/s");
    }
    let sizes: (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), avg(octet_length(payload))::int8, pg_total_relation_size('audit_entries') / count(*)
         FROM audit_entries",
    )
    .fetch_one(&*pool)
    .await?;
    println!("  {} entries of {} bytes, each {} bytes with its indexes", sizes.0, sizes.1, sizes.2);
    Ok(())
}

/// Stages the entries of as many writes.
async fn stage(db: &PgPool, projects: i32) -> Result<()> {
    let entry = json!({
        "action": "token.created",
        "actor": { "credential_id": "key_19ab5e6c7d0171b2a3c4d5e6f7081920", "id": "key_19ab5e6c7d0171b2a3c4d5e6f7081920", "type": "key" },
        "changes": {
            "created_at": "2026-03-01T12:00:00.000Z", "expires_at": "2026-05-30T12:00:00.000Z", "hint": "cap_abcdefgh",
            "id": "tok_19ab5e6c7d0171b2a3c4d5e6f7081921", "last_used_at": null, "name": "ci-token",
            "project_id": "proj_19ab5e6c7d0171b2a3c4d5e6f7081922", "scopes": ["users:read", "usage:read"], "status": "active",
        },
        "occurred_at": "2026-03-01T12:00:00.000Z",
        "outcome": "success",
        "request_id": "req_19ab5e6c7d0171b2a3c4d5e6f7081923",
        "source_ip": "192.0.2.7",
        "target": { "id": "TARGET", "type": "token" },
        "user_agent": "curl/8.5.0",
    });
    sqlx::query(
        "INSERT INTO audit_staged (project_id, entry)
         SELECT lpad(to_hex(1 + n % $3), 32, '0')::uuid, replace($2, 'TARGET', 'tok_' || to_hex(n)) FROM generate_series(1, $1) n",
    )
    .bind(STAGED)
    .bind(entry.to_string())
    .bind(i64::from(projects))
    .execute(db)
    .await?;
    sqlx::query("VACUUM ANALYZE audit_staged").execute(db).await?;
    Ok(())
}

/// Compares two servers of which one has a database that ignores staged entries: it pays for making them, but not for
/// storing and sealing them.
fn writes(folder: &Path, with: &str, without: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = |database: &str| -> Result<(Server, Requests, Pool)> {
        let (session, project) = bootstrap(folder, database)?;
        let server = Server::this_program(folder, &["--server", database])?.ready()?;
        let key = runtime.block_on(make_key(&server, &session, &project))?;
        let requests: Requests = Arc::new(move |_| {
            let more = format!("{JSON}idempotency-key: {}\r\n", Uuid::new_v4());
            request("POST", TOKENS, &key, &more, BODY).into()
        });
        let _guard = runtime.enter();
        Ok((server, requests, db::pool(db::options_from_url(database)?, 1)))
    };
    let (with, without) = (start(with)?, start(without)?);
    let ignore = "CREATE RULE ignored AS ON INSERT TO audit_staged DO INSTEAD NOTHING";
    runtime.block_on(async { sqlx::query(ignore).execute(&*without.2).await })?;
    println!(
        "POST {TOKENS} with an Idempotency-Key, {CONNECTIONS} connections, with audit trail, next to the same without"
    );
    let (mut ratios, mut greatest, mut left) = (Vec::new(), [0_f64; 2], 0);
    for round in 0..ROUNDS + 2 {
        let measure =
            |(server, requests, _): &(Server, Requests, Pool)| load::throughput(server.address, 201, requests, ROUND);
        let (with_audit, without_audit) = if round % 2 == 0 {
            let with_audit = measure(&with)?;
            left = left.max(runtime.block_on(wait_until_sealed(&with.2))?);
            (with_audit, measure(&without)?)
        } else {
            let without_audit = measure(&without)?;
            let with_audit = measure(&with)?;
            left = left.max(runtime.block_on(wait_until_sealed(&with.2))?);
            (with_audit, without_audit)
        };
        // The first rounds warm up.
        if round >= 2 {
            ratios.push(with_audit / without_audit);
            greatest = [greatest[0].max(with_audit), greatest[1].max(without_audit)];
        }
    }
    println!("  at most {:.0}/s with and {:.0}/s without, in {ROUNDS} rounds", greatest[0], greatest[1]);
    println!("  ratio of responses per second: {}", Spread::of(&mut ratios));
    println!("  at most {left} entries were staged at the end of a round");
    Ok(())
}

/// Waits until no entry is staged. Returns how many were staged at first.
async fn wait_until_sealed(db: &PgPool) -> Result<i64> {
    let count = || sqlx::query_scalar("SELECT count(*) FROM audit_staged").fetch_one(db);
    let left = count().await?;
    while count().await? > 0_i64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(left)
}

async fn make_key(server: &Server, session: &str, project: &str) -> Result<String> {
    let mut client = Client::open(server.address).await?;
    text(&client.create("/v1/keys", session, &json!({ "project_id": project })).await?, "key")
}

/// Runs a server as `cloudapi serve` does, with its log on standard error.
async fn serve(database: &str) -> Result<()> {
    let filter = EnvFilter::new("info");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).json().flatten_event(true).init();
    let options = AppOptions { public_url: "http://127.0.0.1:8080".into(), ..AppOptions::default() };
    let app = App::new(db::pool(db::options_from_url(database)?, POOL), Clock::system(), options)?;
    db::prepare(&app.store.db).await?;
    flush::open(&app.meter, &app.store.db, &app.store.clock).await?;
    app.lifecycle.enter(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("bare listens on {}", listener.local_addr()?);
    io::stdout().flush()?;
    server::serve(app, listener, server::Shutdown::default()).await;
    Ok(())
}
