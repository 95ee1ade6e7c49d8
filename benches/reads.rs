//! Measures requests that are answered from the cache, and a list from the database, next to baselines in the same run.
//! Run with `cargo bench --bench reads`; `-- introspection`, `-- list` or `-- many` runs a part.
//!
//! Each server is a separate process. Ours runs as in production: release build, default settings, its log in a file.
//! The baselines are axum handlers without layers, on sqlx with its defaults. PostgreSQL listens on TCP.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{env, io::Write, path::Path, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    routing::{get, post},
};
use serde::Serialize;
use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use uuid::Uuid;

use support::{
    POOL, Result, Server, bootstrap, keys,
    load::{self, Client, JSON, Requests, always, request, text},
    median,
    postgres::Postgres,
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const USERS: usize = 40;
const KEYS: usize = 1_000_000;
const USED_KEYS: usize = 100_000;
const INTROSPECT: &str = "/v1/tokens/introspect";
const LIST: &str = "/v1/users?limit=25";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    if let [bare, database] = arguments.as_slice()
        && bare == "--bare"
    {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_bare(database));
    }
    let is_selected = |part: &str| {
        let parts: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        parts.is_empty() || parts.iter().any(|wanted| *wanted == part)
    };
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let bench = Bench::prepare(folder.path(), &postgres.url)?;
    if is_selected("introspection") {
        bench.introspection()?;
    }
    if is_selected("list") {
        bench.list()?;
    }
    if is_selected("many") {
        bench.many(folder.path(), &postgres.url)?;
    }
    Ok(())
}

struct Bench {
    ours: Server,
    bare: Server,
    key: String,
    token: String,
}

impl Bench {
    fn prepare(folder: &Path, database: &str) -> Result<Self> {
        let (session, project) = bootstrap(folder, database)?;
        let ours = Server::cloudapi(folder, database, &[])?;
        let bare = Server::baseline(folder, database)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (key, token) = runtime.block_on(async {
            let mut client = Client::open(ours.address).await?;
            let made = client.create("/v1/keys", &session, &json!({ "project_id": project })).await?;
            let key = text(&made, "key")?;
            for number in 0..USERS {
                let body =
                    json!({ "project_id": project, "email": format!("user{number}@example.com"), "role": "viewer" });
                client.create("/v1/users", &session, &body).await?;
            }
            let body = json!({ "name": "bench", "scopes": ["users:read", "usage:read"] });
            let made = client.create("/v1/tokens", &key, &body).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((key, text(&made, "token")?))
        })?;
        Ok(Self { ours, bare, key, token })
    }

    fn introspect(&self) -> Requests {
        let body = json!({ "token": self.token }).to_string();
        always(request("POST", INTROSPECT, &self.key, JSON, &body))
    }

    /// Introspects a cached token, next to a handler that returns the same bytes.
    fn introspection(&self) -> Result<()> {
        println!("POST {INTROSPECT} of a cached token, next to a bare axum handler that returns the same bytes");
        self.compare(200, &self.introspect())
    }

    /// Lists users, next to a handler that executes the same statement without authentication.
    fn list(&self) -> Result<()> {
        println!("GET {LIST} with a key, next to a bare axum and sqlx handler with the same statement");
        self.compare(200, &always(request("GET", LIST, &self.key, "", "")))
    }

    fn compare(&self, status: u16, requests: &Requests) -> Result<()> {
        let (mut ratios, mut greatest) = (Vec::new(), [0_f64; 2]);
        for round in 0..=ROUNDS {
            let ours = load::throughput(self.ours.address, status, requests, ROUND)?;
            let bare = load::throughput(self.bare.address, status, requests, ROUND)?;
            // The first round warms up.
            if round > 0 {
                println!("  round {round}: ours {ours:.0}/s, bare {bare:.0}/s, ratio {:.2}", ours / bare);
                ratios.push(ours / bare);
                greatest = [greatest[0].max(ours), greatest[1].max(bare)];
            }
        }
        println!("  median ratio {:.2}", median(&mut ratios));
        let half = greatest[0] / 2.0;
        for (name, address) in [("ours", self.ours.address), ("bare", self.bare.address)] {
            let taken = load::latencies(address, status, requests, half, ROUND * 2)?;
            let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
            println!(
                "  at {half:.0}/s, half of our maximum rate: {name} p50 {} µs, p99 {} µs, p99.9 {} µs",
                at(0.5),
                at(0.99),
                at(0.999)
            );
        }
        Ok(())
    }

    /// Measures with many keys in the database, many of them in use.
    fn many(&self, folder: &Path, database: &str) -> Result<()> {
        println!("POST {INTROSPECT}, {USED_KEYS} of {KEYS} keys in use, next to one key that introspects itself");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keys = runtime.block_on(self.insert_keys(database))?;
        let ours = Server::cloudapi(folder, database, &[])?;
        let of_key = |asking: &str, asked: &str| -> Arc<[u8]> {
            request("POST", INTROSPECT, asking, JSON, &json!({ "token": asked }).to_string()).into()
        };
        let about: Vec<Arc<[u8]>> =
            (0..keys.len()).map(|number| of_key(&keys[number * 7919 % keys.len()], &keys[number])).collect();
        let one = always(of_key(&keys[0], &keys[0]).to_vec());
        load::throughput(ours.address, 200, &one, ROUND)?;
        let before = ours.memory()?;
        let count = about.len() as u64;
        // In a different order each time, as in production.
        let many: Requests = Arc::new(move |number: u64| Arc::clone(&about[(number * 48_271 % count) as usize]));
        load::once_each(ours.address, 200, &many, count)?;
        load::throughput(ours.address, 200, &many, ROUND)?;
        let after = ours.memory()?;
        println!("  {} bytes of memory per cached key", (after.saturating_sub(before)) / keys.len() as u64);
        let mut ratios = Vec::new();
        for round in 1..=ROUNDS {
            let of_many = load::throughput(ours.address, 200, &many, ROUND)?;
            let of_one = load::throughput(ours.address, 200, &one, ROUND)?;
            println!("  round {round}: many {of_many:.0}/s, one {of_one:.0}/s, ratio {:.2}", of_many / of_one);
            ratios.push(of_many / of_one);
        }
        println!("  median ratio {:.2}", median(&mut ratios));
        Ok(())
    }

    /// Inserts keys as the API does, but faster. Returns the secrets of those that are used.
    async fn insert_keys(&self, database: &str) -> Result<Vec<String>> {
        let db = PgPoolOptions::new().max_connections(1).connect(database).await?;
        let project: Uuid = sqlx::query_scalar("SELECT project_id FROM keys LIMIT 1").fetch_one(&db).await?;
        print!("  inserting {KEYS} keys …");
        std::io::stdout().flush()?;
        let used = keys::insert(&db, &vec![project; USED_KEYS], &["tokens:introspect", "users:read"]).await?;
        let mut left = KEYS - USED_KEYS;
        while left > 0 {
            let batch = left.min(100_000);
            let ids: Vec<Uuid> = std::iter::repeat_with(Uuid::now_v7).take(batch).collect();
            sqlx::query(
                "INSERT INTO keys (id, project_id, name, scopes, created_at, hint)
                 SELECT id, $2, 'bench', ARRAY['users:read'], now(), 'sk_live_xxxx' FROM unnest($1) AS id",
            )
            .bind(&ids)
            .bind(project)
            .execute(&db)
            .await?;
            sqlx::query(
                "INSERT INTO key_secrets (secret_hash, key_id, created_at)
                 SELECT sha256(uuid_send(id)), id, now() FROM unnest($1) AS id",
            )
            .bind(&ids)
            .execute(&db)
            .await?;
            left -= batch;
        }
        sqlx::query("VACUUM ANALYZE").execute(&db).await?;
        println!(" done");
        Ok(used)
    }
}

/// The straightforward implementation, without authentication and without limits.
async fn serve_bare(database: &str) -> Result<()> {
    let db = PgPoolOptions::new().max_connections(POOL).connect(database).await?;
    let project: Uuid = sqlx::query_scalar("SELECT id FROM projects LIMIT 1").fetch_one(&db).await?;
    let router =
        Router::new().route(INTROSPECT, post(introspect)).route("/v1/users", get(users)).with_state((db, project));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("bare listens on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn introspect(_body: Bytes) -> ([(header::HeaderName, &'static str); 1], &'static str) {
    // As long as our response for a token.
    let answer = r#"{"active":true,"scope":"usage:read users:read","client_id":"proj_1a210341d157594adce422dc7277409","sub":"tok_1a210341d157594adce422dc7277409","jti":"tok_1a210341d157594adce422dc7277409","token_type":"Bearer","iat":1795568180,"exp":1798160180}"#;
    ([(header::CONTENT_TYPE, "application/json")], answer)
}

#[derive(Serialize, sqlx::FromRow)]
struct User {
    id: Uuid,
    email: String,
    role: String,
    status: String,
    #[serde(serialize_with = "rfc3339")]
    created_at: OffsetDateTime,
}

fn rfc3339<S: serde::Serializer>(time: &OffsetDateTime, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let text = time.format(&time::format_description::well_known::Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}

#[derive(Serialize)]
struct Page {
    data: Vec<User>,
    next_cursor: Option<Uuid>,
}

async fn users(State((db, project)): State<(PgPool, Uuid)>) -> std::result::Result<Json<Page>, StatusCode> {
    let mut data: Vec<User> = sqlx::query_as(
        "SELECT u.id, u.email, m.role, m.status, u.created_at FROM members m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $1 AND ($2::text IS NULL OR m.role = $2) AND m.user_id < $3 ORDER BY m.user_id DESC LIMIT 26",
    )
    .bind(project)
    .bind(None::<String>)
    .bind(Uuid::max())
    .fetch_all(&db)
    .await
    .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let has_more = data.len() > 25;
    data.truncate(25);
    let next_cursor = data.last().filter(|_| has_more).map(|user| user.id);
    Ok(Json(Page { data, next_cursor }))
}
