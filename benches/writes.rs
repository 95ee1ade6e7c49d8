//! Measures the throughput of `POST /v1/tokens` with an `Idempotency-Key`, next to two baselines in the same run, on
//! the same PostgreSQL with default durability: a bare axum and sqlx handler that inserts the same row in a
//! transaction, and pgbench with the same insert. Run with `cargo bench --bench writes`.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{env, fs, io::Write, path::Path, process::Command, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::net::TcpListener;
use uuid::Uuid;

use support::{
    POOL, Result, Server, bootstrap,
    load::{self, CONNECTIONS, Client, JSON, Requests, request, text},
    median,
    postgres::{Postgres, program},
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(4);
const TOKENS: &str = "/v1/tokens";
const BODY: &str = r#"{"name":"ci-token","scopes":["users:read","usage:read"]}"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [bare, database] = arguments.as_slice()
        && bare == "--bare"
    {
        return runtime.block_on(serve_bare(database));
    }
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let (session, project) = bootstrap(folder.path(), &postgres.url)?;
    runtime.block_on(prepare(&postgres.url))?;
    let ours = Server::cloudapi(folder.path(), &postgres.url, &[])?;
    let bare = Server::baseline(folder.path(), &postgres.url)?;
    let key = runtime.block_on(make_key(&ours, &session, &project))?;
    let writes: Requests = Arc::new(move |_| {
        let more = format!("{JSON}idempotency-key: {}\r\n", Uuid::new_v4());
        request("POST", TOKENS, &key, &more, BODY).into()
    });

    println!(
        "POST {TOKENS} with an Idempotency-Key, {CONNECTIONS} connections, pools of {POOL}, rounds of {} s",
        ROUND.as_secs()
    );
    let (mut of_bare, mut of_pgbench) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let ours = load::throughput(ours.address, 201, &writes, ROUND)?;
        let bare = load::throughput(bare.address, 201, &writes, ROUND)?;
        let pgbench = pgbench(&postgres, folder.path());
        // The first round warms up.
        if round > 0 {
            of_bare.push(ours / bare);
            print!("  round {round}: ours {ours:.0}/s, bare {bare:.0}/s ({:.2})", ours / bare);
            match pgbench {
                Ok(pgbench) => {
                    of_pgbench.push(ours / pgbench);
                    println!(", pgbench {pgbench:.0}/s ({:.2})", ours / pgbench);
                }
                Err(error) => println!(", no pgbench: {error}"),
            }
        }
    }
    println!("  median ratio to bare axum and sqlx: {:.2}", median(&mut of_bare));
    if !of_pgbench.is_empty() {
        println!("  median ratio to pgbench: {:.2}", median(&mut of_pgbench));
    }
    Ok(())
}

async fn prepare(database: &str) -> Result<()> {
    let db = PgPoolOptions::new().max_connections(1).connect(database).await?;
    let create = "CREATE TABLE bare (id uuid PRIMARY KEY, project_id uuid NOT NULL REFERENCES projects,
                                     secret_hash bytea NOT NULL UNIQUE, name text NOT NULL, scopes text[] NOT NULL,
                                     created_at timestamptz NOT NULL DEFAULT now())";
    sqlx::query(create).execute(&db).await?;
    Ok(())
}

async fn make_key(ours: &Server, session: &str, project: &str) -> Result<String> {
    let mut client = Client::open(ours.address).await?;
    text(&client.create("/v1/keys", session, &json!({ "project_id": project })).await?, "key")
}

#[derive(Deserialize)]
struct NewToken {
    name: String,
    scopes: Vec<String>,
}

/// The straightforward implementation, on sqlx with its defaults.
async fn serve_bare(database: &str) -> Result<()> {
    let db = PgPoolOptions::new().max_connections(POOL).connect(database).await?;
    let project: Uuid = sqlx::query_scalar("SELECT id FROM projects LIMIT 1").fetch_one(&db).await?;
    let router = Router::new().route(TOKENS, post(insert)).with_state((db, project));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("bare listens on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn insert(
    State((db, project)): State<(PgPool, Uuid)>,
    Json(new): Json<NewToken>,
) -> std::result::Result<(StatusCode, Json<Value>), StatusCode> {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let id = Uuid::now_v7();
    let mut tx = db.begin().await.map_err(failed)?;
    sqlx::query("INSERT INTO bare (id, project_id, secret_hash, name, scopes) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(project)
        .bind(id.as_bytes().as_slice())
        .bind(&new.name)
        .bind(&new.scopes)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id.to_string(), "name": new.name, "scopes": new.scopes }))))
}

/// Transactions per second of pgbench with the same insert.
fn pgbench(postgres: &Postgres, folder: &Path) -> Result<f64> {
    // The script has no colons: pgbench would read them as variables.
    let script = folder.join("insert.sql");
    fs::write(
        &script,
        "BEGIN;\nINSERT INTO bare (id, project_id, secret_hash, name, scopes) SELECT new.id, projects.id, uuid_send(new.id), 'ci-token', ARRAY['users' || chr(58) || 'read', 'usage' || chr(58) || 'read'] FROM (SELECT gen_random_uuid() AS id) AS new, projects;\nCOMMIT;\n",
    )?;
    let output = Command::new(program("pgbench")?)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", &format!("--client={CONNECTIONS}")])
        .args([&format!("--time={}", ROUND.as_secs()), "--file"])
        .arg(&script)
        .args(["--host=127.0.0.1", &format!("--port={}", postgres.port), "--username=cloudapi", "postgres"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned().into())
}
