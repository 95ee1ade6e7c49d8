//! Everything that can fail: PostgreSQL, the servers, and the connections between them.

mod postgres;

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use cloudapi::{
    api::usage::finalize::Finalizer,
    base::server_key::ServerKey,
    db::{
        self,
        embedded::{Durability, Options, PrivatePostgres},
    },
};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::task::spawn_blocking;

use self::postgres::{socket_of, start_postgres};
use crate::{
    harness::{
        client::{Client, RunState},
        http::Request,
        random::Random,
    },
    proxy::Proxy,
    servers::{
        clocks::Clocks,
        node::{self, Node},
        prepared,
        slot::Slot,
    },
};

/// Credentials that all clients share.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Session of the owner of `project`.
    pub session: String,
    pub key: String,
    pub project: String,
}

/// One PostgreSQL, several servers, and a proxy between PostgreSQL and each server.
pub struct Cluster {
    // Fields are dropped in this order: everything in the slot's folder stops before the slot is released.
    nodes: Vec<Option<Node>>,
    pub proxies: Vec<Proxy>,
    /// The nodes' clocks, if they can be set.
    clocks: Option<Clocks>,
    pub run_state: Arc<RunState>,
    pub credentials: Credentials,
    /// The harness's own connection to the database, without a proxy.
    pub db: PgPool,
    postgres: Option<PrivatePostgres>,
    postgres_options: Options,
    /// The synchronous standby, if there is one.
    standby: Option<PrivatePostgres>,
    slot: Slot,
}

impl Cluster {
    /// Starts `count` servers and waits until they are ready.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, None, None).await
    }

    /// The same, with servers that retry webhook deliveries within seconds.
    pub async fn start_with_fast_deliveries(count: usize) -> Self {
        Self::start_with(count, Some(Clocks::right(count)), None).await
    }

    /// The same, with adjustable clocks that start shortly before the end of a month.
    pub async fn start_before_the_months_end(count: usize) -> Self {
        Self::start_with(count, Some(Clocks::before_the_months_end(count)), None).await
    }

    /// The same as [`Cluster::start_with_fast_deliveries`], with these providers and short intervals for polling them.
    pub async fn start_with_fast_engine(count: usize, providers: &str) -> Self {
        Self::start_with(count, Some(Clocks::right(count)), Some(providers)).await
    }

    /// Starts `count` servers with the default timing and these providers.
    pub async fn start_with_providers(count: usize, providers: &str) -> Self {
        Self::start_with(count, None, Some(providers)).await
    }

    async fn start_with(count: usize, clocks: Option<Clocks>, providers: Option<&str>) -> Self {
        let slot = Slot::acquire("chaos");
        let postgres_options = Options {
            data_dir: slot.folder.join("database"),
            pg_bin: env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from),
            // PostgreSQL gets killed, and committed data must survive.
            durability: Durability::Durable,
            max_connections: 100,
        };
        let data_dir = postgres_options.data_dir.clone();
        spawn_blocking(move || prepared::install(&data_dir)).await.unwrap();
        let postgres = start_postgres(&postgres_options).await;
        // The operator copies the key to each machine of a deployment.
        fs::write(slot.folder.join(node::KEY_FILE), ServerKey::generate().to_text()).unwrap();
        if let Some(providers) = providers {
            fs::write(slot.folder.join(node::PROVIDERS_FILE), providers).unwrap();
        }
        let socket = socket_of(&postgres);
        let options = db::options_for_private(postgres.endpoint());
        let db = PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
        let mut proxies = Vec::new();
        for _ in 0..count {
            proxies.push(Proxy::start(socket.clone()).await);
        }
        let credentials = Credentials { session: String::new(), key: String::new(), project: String::new() };
        let run_state = RunState::new(count);
        let nodes = std::iter::repeat_with(|| None).take(count).collect();
        // From here on, dropping `cluster` stops everything.
        let mut cluster = Self {
            nodes,
            proxies,
            clocks,
            run_state,
            credentials,
            db,
            postgres: Some(postgres),
            postgres_options,
            standby: None,
            slot,
        };
        cluster.bootstrap().await;
        cluster
    }

    async fn bootstrap(&mut self) {
        let arguments = ["admin", "bootstrap", "--email", "ada@example.com", "--project", "Chaos", "--json"];
        let made = self.run(&arguments).await;
        self.credentials.session = text(&made["session"]["token"]);
        self.credentials.project = text(&made["project"]["id"]);
        for node in 0..self.nodes.len() {
            self.start_node(node).await;
        }
        let body = json!({ "project_id": self.credentials.project, "name": "chaos" });
        let request = self.request("POST", "/v1/keys", Some(body));
        let made = self.client(0).send_until_final(&Arc::new(request)).await;
        assert_eq!(made.status, 201, "{made:?}");
        self.credentials.key = text(&made.json()["key"]);
        self.all_serve("starting").await;
    }

    /// A request with the owner's session.
    pub fn request(&self, method: &'static str, path: &str, body: Option<Value>) -> Request {
        Request { method, path: path.to_owned(), secret: self.credentials.session.clone(), key: None, body }
    }

    /// A new client with its own random numbers.
    pub fn client(&self, seed: u64) -> Client {
        Client::new(&self.run_state, usize::MAX, Random::new(seed))
    }

    /// The lines of all nodes' logs that contain `text`.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        node::log_lines(&self.slot.folder, self.nodes.len(), text)
    }

    /// Runs an admin command and returns the JSON it prints.
    async fn run(&self, arguments: &[&str]) -> Value {
        let mut command: Command = node::command(&self.slot.folder, 0, self.proxies[0].address, arguments);
        let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub async fn start_node(&mut self, index: usize) {
        let (folder, database) = (self.slot.folder.clone(), self.proxies[index].address);
        let ahead = self.clocks.as_ref().map(|clocks| clocks.ahead(index));
        let node = spawn_blocking(move || Node::start(&folder, index, database, ahead)).await.unwrap();
        self.run_state.set_address(index, Some(node.address));
        self.nodes[index] = Some(node);
    }

    /// `kill -9`.
    pub async fn kill_node(&mut self, index: usize) {
        self.run_state.set_address(index, None);
        let node = self.nodes[index].take().expect("a running node");
        spawn_blocking(move || node.kill()).await.unwrap();
    }

    pub fn signal_node(&self, index: usize, signal: Signal) {
        self.nodes[index].as_ref().expect("a running node").signal(signal);
    }

    /// Sets a node's clock to this many seconds after the end of the month; negative values are before it.
    pub fn set_clock(&self, index: usize, past_end: i64) {
        let step = self.clocks.as_ref().expect("adjustable clocks").set(index, past_end);
        self.nodes[index].as_ref().expect("a running node").step_clock(step);
    }

    /// Makes the month final that the clocks are set around. A server does so only after a minute, which is longer than
    /// servers live in these tests.
    pub async fn end_month(&self) {
        let final_at = self.clocks.as_ref().expect("adjustable clocks").final_at();
        let finalizer = Finalizer::new(400);
        eventually("the month becomes final", async || finalizer.finalize_due(&self.db, final_at).await.ok()).await;
        let sql = "SELECT EXISTS (SELECT FROM usage_periods)";
        let is_final: bool = sqlx::query_scalar(sql).fetch_one(&self.db).await.unwrap();
        assert!(is_final, "no month became final");
    }

    /// Waits until every node has served a request sent from now on. Returns how long that took.
    pub async fn all_serve(&self, after: &str) -> Duration {
        let (since, begun) = (self.run_state.now(), Instant::now());
        let request = &Arc::new(self.request("GET", "/v1/projects?limit=1", None));
        join_all((0..self.nodes.len()).map(|node| async move {
            let mut client = self.client(since);
            client.timeout = Duration::from_secs(1);
            eventually(&format!("node {node} serves after {after}"), async || {
                // Another client may have been served already.
                let served = self.run_state.has_served(node, since)
                    || client.send(node, request).await.is_some_and(|response| response.is_success());
                served.then_some(())
            })
            .await;
        }))
        .await;
        begun.elapsed()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        self.proxies.clear();
        // Stop the standby first: a primary shuts down only after its standby has received everything.
        for postgres in [self.standby.take(), self.postgres.take()].into_iter().flatten() {
            let _ = postgres.stop();
        }
        let _ = fs::remove_dir_all(&self.slot.folder);
    }
}

/// Returns the text in `value`; panics if it is something else.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected text, got {value}")).to_owned()
}

/// Waits until `condition` returns a value. Panics after thirty seconds: a generous limit for slow machines, not a
/// guarantee of the server.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(30), "timed out waiting for: {what}");
        // Checking a condition costs the servers time.
        tokio::time::sleep((waited / 8).clamp(Duration::from_millis(5), Duration::from_millis(50))).await;
    }
}
