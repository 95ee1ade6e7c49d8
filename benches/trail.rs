//! Measures reading a long audit trail: page ten thousand next to page one, with each filter, and an export of the
//! whole trail. Run with `cargo bench --bench trail`; `-- 10000000` sets the number of entries, by default a million.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{
    env,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use cloudapi::base::{id::AuditId, runtime::clock::Timestamp};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use support::{
    Result, Server, bootstrap,
    load::{Client, request, text},
    median,
    postgres::Postgres,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const ENTRIES: i64 = 1_000_000;
/// How many other projects have entries: each has one for each hundred of the project's.
const OTHERS: i64 = 10;
const PAGE: i64 = 25;
const DEEP: i64 = 10_000;
const ROUNDS: usize = 25;
/// Time of the first entry, in milliseconds since 1970. Each entry is one millisecond after the previous one.
const START_MILLIS: i64 = 1_700_000_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let entries = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(ENTRIES);
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let (session, project) = bootstrap(folder.path(), &postgres.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(folder.path(), &postgres.url, &session, &project, entries))
}

async fn run(folder: &Path, database: &str, session: &str, project: &str, entries: i64) -> Result<()> {
    let began = Instant::now();
    seed(database, entries).await?;
    println!(
        "{entries} entries, and a hundredth of that in each of {OTHERS} other projects, inserted in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let server = Server::cloudapi(folder, database, &[])?;
    let mut client = Client::open(server.address).await?;
    let body = json!({ "project_id": project, "scopes": ["audit:read"] });
    let key = &text(&client.create("/v1/keys", session, &body).await?, "key")?;
    // Each filter matches one in `one_in` entries.
    let from = Timestamp::parse("2023-11-14T22:13:20Z").ok_or("no time")?;
    for (name, filter, one_in) in [
        ("no filter", String::new(), 1),
        ("a common action", "&action=key.updated".into(), 2),
        ("a rare action", "&action=key.revoked".into(), 1000),
        ("an actor", "&actor=usr_7".into(), 10),
        ("a target", "&target=key_3".into(), 100),
        ("an actor and an action", "&actor=usr_7&action=key.updated".into(), 10),
        ("a time range", format!("&from={from}"), 1),
    ] {
        let depth = (DEEP - 1).min(entries / one_in / PAGE - 1);
        let last = AuditId::from_u128(number(START_MILLIS + depth * PAGE * one_in - 1));
        let first = format!("/v1/audit-logs?limit={PAGE}{filter}");
        let deep = format!("{first}&cursor={last}");
        compare(&mut client, key, &format!("{name}, page {} next to the first", depth + 1), [&deep, &first]).await?;
    }
    let before = server.memory()?;
    let began = Instant::now();
    let (bytes, most) = export(server.address, key, &server).await?;
    println!(
        "export of all entries: {:.1} s, {:.0} MB; memory of the server: {:.0} MB before, at most {:.0} MB",
        began.elapsed().as_secs_f64(),
        bytes as f64 / 1e6,
        before as f64 / 1e6,
        most as f64 / 1e6
    );
    Ok(())
}

/// The ID of the entry at this millisecond.
fn number(millisecond: i64) -> u128 {
    (u128::from(millisecond.unsigned_abs()) << 80) | (0x7000_8000 << 48)
}

async fn compare(client: &mut Client, key: &str, name: &str, [asked, baseline]: [&str; 2]) -> Result<()> {
    let (mut ratios, mut times, mut base_times) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let time = milliseconds(client, key, asked).await?;
        let base_time = milliseconds(client, key, baseline).await?;
        // The first round warms up.
        if round > 0 {
            ratios.push(time / base_time);
            times.push(time);
            base_times.push(base_time);
        }
    }
    println!(
        "  {name}: {:.2} ms and {:.2} ms, median ratio {:.2}",
        median(&mut times),
        median(&mut base_times),
        median(&mut ratios)
    );
    Ok(())
}

async fn milliseconds(client: &mut Client, key: &str, path: &str) -> Result<f64> {
    let request = request("GET", path, key, "", "");
    let began = Instant::now();
    let answer = client.send(&request, 200).await?;
    let time = began.elapsed().as_secs_f64() * 1e3;
    let page: Value = serde_json::from_slice(answer)?;
    match page["data"].as_array().map(Vec::len) {
        Some(full) if full == PAGE.unsigned_abs() as usize => Ok(time),
        other => Err(format!("{path} has {other:?} entries").into()),
    }
}

/// Reads a whole export. Returns its size and the maximum memory of the server.
async fn export(address: SocketAddr, key: &str, server: &Server) -> Result<(u64, u64)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request("GET", "/v1/audit-logs/export", key, "connection: close\r\n", "")).await?;
    let (mut bytes, mut most, mut looked) = (0, 0, Instant::now());
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Ok((bytes, most));
        }
        bytes += length as u64;
        if looked.elapsed() > Duration::from_millis(50) {
            looked = Instant::now();
            most = most.max(server.memory()?);
        }
    }
}

/// Inserts entries as the sealer would, except for their hashes, which reads do not use.
async fn seed(database: &str, entries: i64) -> Result<()> {
    let db = PgPoolOptions::new().max_connections(1).connect(database).await?;
    sqlx::query(
        r#"INSERT INTO audit_entries (project_id, id, seq, payload, salt, payload_hash, prev_hash, hash, action, actor_id, target_id, is_event)
           SELECT project, id, n + 1,
                  convert_to(format('{"action":"%s","actor":{"credential_id":"sess_1","id":"%s","type":"user"},"changes":{"name":["before","after"],"scopes":[["users:read"],["users:read","usage:read"]]},"id":"aud_%s","occurred_at":"%s","outcome":"success","project_id":"proj_%s","request_id":"req_1","seq":%s,"source_ip":"203.0.113.9","target":{"id":"%s","type":"key"},"user_agent":"ci/1"}',
                      action, actor, ltrim(replace(id::text, '-', ''), '0'),
                      to_char(to_timestamp(($2 + n) / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                      ltrim(replace(project::text, '-', ''), '0'), n + 1, target), 'UTF8'),
                  decode(repeat('00', 16), 'hex'), hash, hash, hash, action, actor, target, true
           FROM generate_series(0, $1 - 1) n
           CROSS JOIN LATERAL (
               SELECT CASE WHEN n % 1000 = 0 THEN 'key.revoked' WHEN n % 2 = 0 THEN 'key.updated' ELSE 'key.created' END AS action,
                      'usr_' || CASE WHEN n % 10 = 0 THEN 7 ELSE 8 + n % 10 END AS actor,
                      'key_' || CASE WHEN n % 100 = 0 THEN 3 ELSE 4 + n % 1000 END AS target,
                      decode(repeat('00', 32), 'hex') AS hash
           ) made
           CROSS JOIN LATERAL (
               SELECT p.id AS project, (lpad(to_hex($2 + n), 12, '0') || '70008000' || lpad(to_hex(p.other), 12, '0'))::uuid AS id
               FROM (SELECT id, 0 AS other FROM projects UNION ALL
                     SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(other), 12, '0'))::uuid, other FROM generate_series(1, CASE WHEN n % 100 = 0 THEN $3 ELSE 0 END) AS other) p
           ) placed"#,
    )
    .bind(entries)
    .bind(START_MILLIS)
    .bind(OTHERS)
    .execute(&db)
    .await?;
    sqlx::query(
        "INSERT INTO audit_chains (project_id, seq, hash, latest_by, earliest_by, uncovered)
         SELECT id, $1, decode(repeat('00', 32), 'hex'), 0, 0, 0 FROM projects
         ON CONFLICT (project_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    )
    .bind(entries)
    .execute(&db)
    .await?;
    sqlx::query("VACUUM ANALYZE audit_entries").execute(&db).await?;
    Ok(())
}
