//! Throughput of `POST /v1/tokens` with an `Idempotency-Key`, beside two baselines in the same run, on the same
//! PostgreSQL with default durability: a bare axum and sqlx handler that inserts the same row in a
//! transaction, and pgbench inserting it. Rounds alternate, and the ratio of each pair of rounds is told,
//! because a machine's speed drifts. Run with `cargo bench --bench writes`.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing, reason = "a program for a terminal")]

use std::{
    env,
    error::Error,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use cloudapi::{
    base::{clock::Clock, lifecycle::Phase},
    cli::demo,
    db::{
        self,
        embedded::{Durability, Endpoint, Options, PrivatePostgres},
    },
    server::{self, Stop},
    state::{App, AppOptions},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

const CONNECTIONS: usize = 32;
const POOL: u32 = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    // `cargo test` builds benches too, and runs them with this.
    if env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let options = Options {
        data_dir: folder.path().join("data"),
        pg_bin: env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from),
        durability: Durability::Durable,
        max_connections: 150,
    };
    let postgres = PrivatePostgres::start(options)?;
    let database = db::options_for_private(postgres.endpoint());

    let app = App::new(db::pool(database.clone(), POOL), Clock::system(), AppOptions::default())?;
    db::prepare(&app.db).await?;
    app.lifecycle.enter(Phase::Serving);
    demo::load_if_empty(&app).await?;
    let (_, key) = demo::credentials(&app).await?;
    let ours = TcpListener::bind("127.0.0.1:0").await?;
    let ours_at = ours.local_addr()?;
    tokio::spawn(server::serve(app.clone(), ours, Stop::default()));

    // sqlx as it comes.
    let bare_pool = PgPoolOptions::new().max_connections(POOL).connect_with(database).await?;
    sqlx::query(
        "CREATE TABLE bare (id uuid PRIMARY KEY, project_id uuid NOT NULL REFERENCES projects, secret_hash bytea NOT NULL UNIQUE,
                            name text NOT NULL, scopes text[] NOT NULL, created_at timestamptz NOT NULL DEFAULT now())",
    )
    .execute(&bare_pool)
    .await?;
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    let bare_at = bare.local_addr()?;
    let router = Router::new().route("/v1/tokens", post(insert)).with_state(bare_pool.clone());
    tokio::spawn(async move { axum::serve(bare, router).await });

    let (mut of_bare, mut of_pgbench) = (Vec::new(), Vec::new());
    println!(
        "POST /v1/tokens, {CONNECTIONS} connections, pools of {POOL}, rounds of {} s; in requests/s",
        ROUND.as_secs()
    );
    for round in 0..=ROUNDS {
        let ours = load(ours_at, key.expose()).await?;
        let bare = load(bare_at, key.expose()).await?;
        let pgbench = pgbench(postgres.endpoint(), folder.path());
        // The first round warms up.
        if round > 0 {
            of_bare.push(ours / bare);
            print!("round {round}: ours {ours:.0}, bare {bare:.0} ({:.2})", ours / bare);
            match pgbench {
                Some(pgbench) => {
                    of_pgbench.push(ours / pgbench);
                    println!(", pgbench {pgbench:.0} ({:.2})", ours / pgbench);
                }
                None => println!(", pgbench not found"),
            }
        }
    }
    println!("median ratio to bare axum + sqlx: {:.2}", median(&mut of_bare));
    if !of_pgbench.is_empty() {
        println!("median ratio to pgbench:          {:.2}", median(&mut of_pgbench));
    }
    drop(bare_pool);
    postgres.stop()?;
    Ok(())
}

#[derive(Deserialize)]
struct NewToken {
    name: String,
    scopes: Vec<String>,
}

/// What anybody would write first.
async fn insert(
    State(db): State<PgPool>,
    Json(new): Json<NewToken>,
) -> std::result::Result<(StatusCode, Json<Value>), StatusCode> {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let id = Uuid::now_v7();
    let mut tx = db.begin().await.map_err(failed)?;
    sqlx::query("INSERT INTO bare (id, project_id, secret_hash, name, scopes) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(Uuid::from_u128(0x8f2c4))
        .bind(id.as_bytes().as_slice())
        .bind(&new.name)
        .bind(&new.scopes)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id.to_string(), "name": new.name, "scopes": new.scopes }))))
}

/// Requests a second that `address` answers with 201 for a round.
async fn load(address: SocketAddr, secret: &str) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (done, secret) = (Arc::clone(&done), secret.to_owned());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut answer = Vec::with_capacity(4096);
            while began.elapsed() < ROUND {
                let body = r#"{"name":"ci-token","scopes":["users:read","usage:read"]}"#;
                let request = format!(
                    "POST /v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\nidempotency-key: {}\r\ncontent-length: {}\r\n\r\n{body}",
                    Uuid::new_v4(),
                    body.len()
                );
                stream.write_all(request.as_bytes()).await?;
                read_answer(&mut stream, &mut answer).await?;
                if !answer.starts_with(b"HTTP/1.1 201 ") {
                    return Err(String::from_utf8_lossy(&answer).into_owned().into());
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        let ended: Result<()> = ended?;
        ended?;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let Some(head) = answer.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        let length: usize = length.ok_or("an answer without a length")?;
        if answer.len() >= head + 4 + length {
            return Ok(());
        }
    }
}

/// Transactions a second of pgbench that insert the same row, if it is installed.
fn pgbench(endpoint: &Endpoint, folder: &Path) -> Option<f64> {
    // A colon would begin a variable of pgbench's.
    let script = folder.join("insert.sql");
    fs::write(
        &script,
        "BEGIN;\nINSERT INTO bare (id, project_id, secret_hash, name, scopes) SELECT id, '00000000-0000-0000-0000-00000008f2c4', uuid_send(id), 'ci-token', ARRAY['users' || chr(58) || 'read', 'usage' || chr(58) || 'read'] FROM (SELECT gen_random_uuid() AS id) AS new;\nCOMMIT;\n",
    )
    .ok()?;
    let folders = env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from).into_iter().chain(
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin")),
    );
    let program = folders.map(|folder| folder.join("pgbench")).find(|program| program.exists())?;
    let output = Command::new(program)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", &format!("--client={CONNECTIONS}")])
        .args([&format!("--time={}", ROUND.as_secs()), "--file"])
        .arg(&script)
        .args(["--host", endpoint.socket_dir.to_str()?, "--port", &endpoint.port.to_string()])
        .args(["--username", &endpoint.user, &endpoint.database])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        eprintln!("pgbench: {}", String::from_utf8_lossy(&output.stderr));
    }
    text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
