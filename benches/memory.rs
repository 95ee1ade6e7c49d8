//! Measures the memory of a server: idle, after load and documentation pages, per cached key, and per event stream. Run
//! with `cargo bench --bench memory`; `-- load`, `-- keys` or `-- streams` runs a part. `!` marks a shortfall.
//!
//! Each part has its own database and server: the release binary with default settings. Memory is the resident memory
//! of the process (VmRSS), which includes the used parts of the program file.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{
    collections::BTreeSet,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cloudapi::server::routes;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{runtime::Runtime, time::sleep};
use uuid::Uuid;

use support::{
    Result, Server, bootstrap, keys,
    load::{self, Client, JSON, Requests, always, open_stream, request, text},
    postgres::Postgres,
    raise_file_limit,
};

const MIB: f64 = 1024.0 * 1024.0;
const INTROSPECT: &str = "/v1/tokens/introspect";
/// Rounds of load with each request, and their time.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(5);
const USERS: usize = 30;
const CACHED_KEYS: usize = 50_000;
const STREAMS: usize = 5_000;
/// The streams are distributed over this number of projects.
const PROJECTS: usize = 1_000;
/// Open files besides the streams, here and in the server.
const OTHER_FILES: u64 = 512;
/// Time until a server's memory is measured after a change.
const SETTLE: Duration = Duration::from_secs(3);
/// Times after the streams were closed, in seconds.
const AFTER_CLOSE: [u64; 2] = [15, 30];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let parts: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_selected = |part: &str| parts.is_empty() || parts.iter().any(|wanted| *wanted == part);
    // A stream is an open file here and in the server.
    let most = raise_file_limit()?;
    if most < STREAMS as u64 + OTHER_FILES {
        return Err(format!("{STREAMS} streams need a higher limit of open files than {most} (ulimit -Hn)").into());
    }
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("  {:<48} {:>14} {:>14}", "memory of a server", "bar", "measured");
    if is_selected("load") {
        measure_load(&Deployment::start(&runtime, folder.path(), &postgres, "load")?, &runtime)?;
    }
    if is_selected("keys") {
        measure_keys(&Deployment::start(&runtime, folder.path(), &postgres, "keys")?, &runtime)?;
    }
    if is_selected("streams") {
        let deployment = Deployment::start(&runtime, folder.path(), &postgres, "streams")?;
        runtime.block_on(measure_streams(&deployment))?;
    }
    Ok(())
}

/// A server that was just started, on its own database.
struct Deployment {
    server: Server,
    session: String,
    project: String,
    database: String,
}

impl Deployment {
    fn start(runtime: &Runtime, folder: &Path, postgres: &Postgres, name: &'static str) -> Result<Self> {
        let folder: PathBuf = folder.join(name);
        fs::create_dir_all(&folder)?;
        let database = runtime.block_on(postgres.database(name))?;
        let (session, project) = bootstrap(&folder, &database)?;
        let server = Server::cloudapi(&folder, &database, &[])?;
        std::thread::sleep(SETTLE);
        Ok(Self { server, session, project, database })
    }

    fn memory(&self) -> Result<f64> {
        Ok(self.server.memory()? as f64)
    }

    async fn db(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(1).connect(&self.database).await?)
    }

    /// Creates an object, and returns a member of the response.
    async fn create(&self, path: &str, body: Value, member: &str) -> Result<String> {
        let mut client = Client::open(self.server.address).await?;
        text(&client.create(path, &self.session, &body).await?, member)
    }
}

/// Prints a figure with its bar, and a mark for a shortfall.
fn print(name: &str, unit: &str, bar: f64, measured: f64) {
    let mark = if measured > bar { '!' } else { ' ' };
    println!("{mark} {name:<48} {:>14} {:>14}", format!("≤ {bar:.1} {unit}"), format!("{measured:.1} {unit}"));
}

/// Measures an idle server, and the same one after load and after all documentation pages.
fn measure_load(deployment: &Deployment, runtime: &Runtime) -> Result<()> {
    print("idle", "MiB", 32.0, deployment.memory()? / MIB);
    let address = deployment.server.address;
    let key = runtime.block_on(async {
        for number in 0..USERS {
            let email = format!("user{number}@example.com");
            let user = json!({ "project_id": deployment.project, "email": email, "role": "viewer" });
            deployment.create("/v1/users", user, "id").await?;
        }
        deployment.create("/v1/keys", json!({ "project_id": deployment.project }), "key").await
    })?;
    let introspect = always(request("POST", INTROSPECT, &key, JSON, &json!({ "token": key }).to_string()));
    let list = always(request("GET", "/v1/users?limit=25", &key, "", ""));
    let token = json!({ "name": "bench", "scopes": ["users:read"] }).to_string();
    for round in 0..ROUNDS {
        let (key, token) = (key.clone(), token.clone());
        let create: Requests = Arc::new(move |number| {
            let headers = format!("{JSON}idempotency-key: memory-{round}-{number}\r\n");
            request("POST", "/v1/tokens", &key, &headers, &token).into()
        });
        for (status, requests) in [(200, &introspect), (200, &list), (201, &create)] {
            load::throughput(address, status, requests, ROUND)?;
        }
    }
    print("after introspection, list and create under load", "MiB", 48.0, deployment.memory()? / MIB);
    let pages = runtime.block_on(get_pages(address))?;
    print(&format!("then after all {pages} pages of /docs, /openapi.json"), "MiB", 48.0, deployment.memory()? / MIB);
    Ok(())
}

/// Gets the OpenAPI document, every page and every file, plain and compressed. Returns their number.
async fn get_pages(address: SocketAddr) -> Result<usize> {
    let document = routes::description();
    let files = document["paths"]["/docs/assets/{file}"]["get"]["parameters"][0]["schema"]["enum"].as_array();
    let files = files.ok_or("no list of files in the OpenAPI document")?.iter().filter_map(Value::as_str);
    let mut found: BTreeSet<String> = files.map(|file| format!("/docs/assets/{file}")).collect();
    found.extend(["/openapi.json", "/docs", "/docs/guides", "/docs/errors", "/docs/search.json"].map(str::to_owned));
    let client = reqwest::Client::new();
    let get = async |path: &str, encoding: &str| {
        let request = client.get(format!("http://{address}{path}")).header("accept-encoding", encoding);
        request.send().await?.error_for_status()?.bytes().await
    };
    // The search index has the URLs of all pages.
    let index: Value = serde_json::from_slice(&get("/docs/search.json", "identity").await?)?;
    for entry in index.as_object().into_iter().flatten().flat_map(|(_, entries)| entries.as_array()).flatten() {
        let page = entry["url"].as_str().and_then(|url| url.split('#').next()).ok_or("an entry without a URL")?;
        found.insert(page.to_owned());
    }
    for path in &found {
        for encoding in ["identity", "gzip"] {
            get(path, encoding).await?;
        }
    }
    Ok(found.len())
}

/// Measures a server that authenticates many keys from its cache.
fn measure_keys(deployment: &Deployment, runtime: &Runtime) -> Result<()> {
    let insert = async |count| {
        let db = deployment.db().await?;
        let project: Uuid = sqlx::query_scalar("SELECT id FROM projects").fetch_one(&db).await?;
        keys::insert(&db, &vec![project; count], &["tokens:introspect"]).await
    };
    let introspect_each = |secrets: Vec<String>| {
        let count = secrets.len() as u64;
        let requests: Requests = Arc::new(move |number: u64| {
            let key = &secrets[number as usize];
            request("POST", INTROSPECT, key, JSON, &json!({ "token": key }).to_string()).into()
        });
        load::once_each(deployment.server.address, 200, &requests, count)?;
        std::thread::sleep(SETTLE);
        deployment.memory()
    };
    // Connections to the database and code that is used for the first time are not memory of keys.
    let before = introspect_each(runtime.block_on(insert(1_000))?)?;
    let after = introspect_each(runtime.block_on(insert(CACHED_KEYS))?)?;
    print(&format!("for each of {CACHED_KEYS} cached keys"), "bytes", 1_200.0, (after - before) / CACHED_KEYS as f64);
    Ok(())
}

/// Measures a server with open event streams, and after they were closed.
async fn measure_streams(deployment: &Deployment) -> Result<()> {
    let db = deployment.db().await?;
    let projects: Vec<Uuid> = std::iter::repeat_with(Uuid::now_v7).take(PROJECTS).collect();
    sqlx::query(
        "INSERT INTO projects (id, name, status, created_at) SELECT id, 'bench', 'active', now() FROM unnest($1) AS id",
    )
    .bind(&projects)
    .execute(&db)
    .await?;
    let keys = keys::insert(&db, &projects, &["events:read"]).await?;
    let address = deployment.server.address;
    // Cached keys and code that is used for the first time are not memory of streams.
    for key in &keys {
        drop(open_stream(address, key).await?);
    }
    sleep(SETTLE).await;
    let before = deployment.memory()?;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        streams.push(open_stream(address, &keys[number % keys.len()]).await?);
    }
    sleep(SETTLE).await;
    let open = deployment.memory()?;
    print(&format!("for each of {STREAMS} event streams"), "KiB", 30.0, (open - before) / STREAMS as f64 / 1024.0);
    println!("  {:<48} {:>14} {:>14}", "before they were opened", "", format!("{:.1} MiB", before / MIB));
    println!("  {:<48} {:>14} {:>14}", "while they are open", "", format!("{:.1} MiB", open / MIB));
    drop(streams);
    let mut passed = 0;
    for seconds in AFTER_CLOSE {
        sleep(Duration::from_secs(seconds - passed)).await;
        passed = seconds;
        print(&format!("{seconds} s after they were closed"), "MiB", before * 1.2 / MIB, deployment.memory()? / MIB);
    }
    Ok(())
}
