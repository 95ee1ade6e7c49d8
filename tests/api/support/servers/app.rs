//! A server on a real socket, with its own database or [shared](super::shared) with other tests.

use std::{env, ops::Deref, time::Duration};

use cloudapi::{
    api::{
        sessions,
        usage::counting::flush,
        users::{self, model::MemberStatus},
    },
    auth::credentials::accounts,
    base::{
        id::{ProjectId, UserId},
        identity::{
            role::Role,
            secret::{Secret, SecretKind},
        },
        input::email::Email,
        runtime::{
            clock::{Clock, since_boot},
            lifecycle::Phase,
        },
    },
    db,
    server::{
        self, Shutdown,
        state::{App, AppOptions},
    },
};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::DropGuard;

use crate::support::{
    cloud, cluster, eventually,
    identity::{Anonymous, Identity, Session},
    leak_detector::{LeakDetector, Leaks},
    not_at_midnight, shared,
};
use serde_json::json;

/// The base URL in the `type` of problems.
pub const PUBLIC_URL: &str = "https://api.example.com";

/// Interval of reading due work: shorter than in production, because tests write some with SQL.
pub const PULSE_INTERVAL: Duration = Duration::from_millis(200);

/// Connections of a server's pool. The pool uses them in turn, and each has to plan each statement itself.
pub const POOL_SIZE: u32 = 8;

/// One server and its database.
pub struct TestApp {
    app: App,
    /// The runtime of the server. Its connections can only be used there.
    runtime: Handle,
    /// Its database, through the server's connection pool but without its failure detection. A shared server's pool
    /// belongs to another runtime, so this is a pool of the test.
    pub db: PgPool,
    /// The URL of the server.
    pub url: String,
    /// A client that follows no redirects and uses no proxy.
    pub http: reqwest::Client,
    /// The server's clock.
    pub clock: Clock,
    /// Finds secrets that the server must not store or log.
    pub leak_detector: LeakDetector,
    /// None if the server is shared.
    _stop: Option<DropGuard>,
    guard: Option<shared::UseGuard>,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let ended = self.guard.take().map(shared::UseGuard::release);
        // A test that fails has its own reason, and another test searches what a shared server left behind.
        if std::thread::panicking() || ended == Some(None) {
            return;
        }
        assert_eq!(self.leak_detector.leaks(), Leaks::default(), "secrets leaked");
        if let Some(Some(log_len)) = ended {
            self.leak_detector.skip_log(log_len);
            let ahead = Clock::system().now().until(self.clock.now());
            assert!(ahead < Duration::from_secs(60), "a test advanced the clock of the shared server");
        }
    }
}

impl Deref for TestApp {
    type Target = App;
    fn deref(&self) -> &App {
        &self.app
    }
}

impl TestApp {
    /// The server that tests share: with the default settings and without rate limits of addresses. For tests that only
    /// see projects and users of their own, whatever other tests do meanwhile. A test must not share it if it changes
    /// the clock or the state of the server, reads all rows of a table, or counts what others cause too.
    pub async fn shared() -> Self {
        not_at_midnight();
        let (server, guard) = shared::acquire();
        let app = server.app.clone();
        let options = app.store.db.connect_options().as_ref().clone();
        Self {
            runtime: server.runtime.clone(),
            db: db::pool_options().max_connections(2).connect_lazy_with(options),
            url: server.url.clone(),
            http: http_client(),
            clock: app.store.clock.clone(),
            leak_detector: server.leak_detector.clone(),
            app,
            _stop: None,
            guard: Some(guard),
        }
    }

    /// Starts a server on an empty database.
    pub async fn start() -> Self {
        Self::start_with(AppOptions { cloud: cloud::fast_provider(), ..AppOptions::default() }).await
    }

    /// Starts a server with these options.
    pub async fn start_with(options: AppOptions) -> Self {
        not_at_midnight();
        Self::start_on(cluster::fresh_database().await, Clock::system(), options).await
    }

    /// Starts another server on the same database, with the same clock.
    pub async fn start_peer(&self, options: AppOptions) -> Self {
        Self::start_on(self.db.connect_options().as_ref().clone(), self.clock.clone(), options).await
    }

    /// Starts another server on the same database, with the same clock and these connection options.
    pub async fn start_with_database(&self, database: PgConnectOptions, options: AppOptions) -> Self {
        Self::start_on(database, self.clock.clone(), options).await
    }

    /// Starts a server on a database that a command has created.
    pub async fn start_at(database: &PgConnectOptions) -> Self {
        Self::start_on(database.clone(), Clock::system(), AppOptions::default()).await
    }

    /// Starts a server on this database.
    pub async fn start_on(database: PgConnectOptions, clock: Clock, options: AppOptions) -> Self {
        let options = AppOptions { pulse_interval: PULSE_INTERVAL, ..options };
        Self::start_exactly(database, clock, options, POOL_SIZE).await
    }

    /// Starts a server whose background work is as frequent as in production.
    pub async fn start_unhurried(database: PgConnectOptions, options: AppOptions) -> Self {
        Self::start_exactly(database, Clock::system(), options, POOL_SIZE).await
    }

    async fn start_exactly(database: PgConnectOptions, clock: Clock, options: AppOptions, connections: u32) -> Self {
        let leak_detector = LeakDetector::new(database.clone());
        let (app, url, stop) = serve(database, clock.clone(), options, connections).await;
        let db = PgPool::clone(&app.store.db);
        Self {
            app,
            runtime: Handle::current(),
            db,
            url,
            http: http_client(),
            clock,
            leak_detector,
            _stop: Some(stop.drop_guard()),
            guard: None,
        }
    }

    /// Runs database work of a fixture on the server's pool.
    async fn on_server<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.spawn(work).await.unwrap()
    }

    /// Waits until requests are authenticated from the cache, if it is enabled.
    pub async fn lease(&self) {
        let Some(credentials) = &self.node.credentials else { return };
        eventually("a lease", async || credentials.lease().remaining(since_boot())).await;
    }

    /// Serves this server's metrics. Returns their URL.
    pub async fn serve_metrics(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(server::metrics::serve(self.app.clone(), listener, Shutdown::default()));
        url
    }

    /// How many credentials were found in the cache.
    pub fn cache_hits(&self) -> u64 {
        self.node.credentials.as_ref().map_or(0, |credentials| credentials.stats().0)
    }

    /// A caller without a credential.
    pub fn anonymous(&self) -> Anonymous<'_> {
        Anonymous { app: self }
    }

    /// Signs in a new user who owns a new project.
    pub async fn owner(&self) -> Session<'_> {
        let mut session = self.user().await;
        let project = session.post("/v1/projects", json!({ "name": "A project" })).await.created();
        session.project = project["id"].as_str().unwrap().to_owned();
        session
    }

    /// Signs in a new user who is in no project.
    pub async fn user(&self) -> Session<'_> {
        let id = UserId::new();
        self.sign_in_new(id, &format!("{id}@example.com")).await
    }

    /// Signs in a new user in `owner`'s project.
    pub async fn member(&self, owner: &Session<'_>, role: Role) -> Session<'_> {
        let mut session = self.user().await;
        let (app, project, user) = (self.app.clone(), owner.project.parse::<ProjectId>().unwrap(), session.user_id);
        self.on_server(async move {
            let (mut db, now) = (PgPool::acquire(&app.store.db).await.unwrap(), app.store.clock.now());
            users::repo::insert_member(&mut db, project, user, role, MemberStatus::Active, now).await.unwrap();
        })
        .await;
        session.project.clone_from(&owner.project);
        session
    }

    /// Signs in a new user with this email address.
    pub async fn sign_in_new(&self, id: UserId, email: &str) -> Session<'_> {
        let (app, email) = (self.app.clone(), email.parse::<Email>().unwrap());
        let new = email.clone();
        self.on_server(async move {
            let mut db = PgPool::acquire(&app.store.db).await.unwrap();
            users::repo::find_or_insert(&mut db, id, &new, app.store.clock.now()).await.unwrap();
        })
        .await;
        self.session(id, email).await
    }

    /// Another session of the same user, in the same project.
    pub async fn another_session(&self, user: &Session<'_>) -> Session<'_> {
        let session = self.session(user.user_id, user.email.parse().unwrap()).await;
        Session { project: user.project.clone(), ..session }
    }

    async fn session(&self, user_id: UserId, email: Email) -> Session<'_> {
        let (app, address) = (self.app.clone(), email.to_string());
        let issued = self.on_server(async move {
            let mut db = PgPool::acquire(&app.store.db).await.unwrap();
            sessions::repo::issue(&mut db, user_id, email, app.store.clock.now()).await.unwrap()
        });
        let issued = issued.await;
        Session {
            app: self,
            user_id,
            email: address,
            id: issued.id.to_string(),
            secret: issued.token.expose().to_owned(),
            project: String::new(),
        }
    }

    /// Sets a user's password.
    pub async fn set_password(&self, user: &Session<'_>, password: &str) {
        self.leak_detector.record(password);
        let hash = self.passwords.hash(password.into()).await.unwrap();
        let (app, user) = (self.app.clone(), user.user_id);
        self.on_server(async move {
            let mut db = PgPool::acquire(&app.store.db).await.unwrap();
            accounts::set_password_hash(&mut db, user, &hash).await.unwrap();
        })
        .await;
    }

    /// Flushes the server's usage counters to the database.
    pub async fn flush_usage(&self) {
        let app = self.app.clone();
        self.on_server(async move {
            let (db, clock) = (PgPool::clone(&app.store.db), &app.store.clock);
            flush::flush_or_log(&app.meter, &db, clock).await;
            flush::refresh(&app.quota, &db, clock).await.unwrap();
        })
        .await;
    }
}

/// Serves an application on this many connections to `database`. Returns it with its URL and what stops it.
pub async fn serve(
    database: PgConnectOptions,
    clock: Clock,
    options: AppOptions,
    connections: u32,
) -> (App, String, Shutdown) {
    // The whole suite also passes without the cache: cached responses must equal those from the database.
    let auth_cache = options.auth_cache && env::var_os("TEST_WITHOUT_AUTH_CACHE").is_none();
    let options = AppOptions { public_url: PUBLIC_URL.to_owned(), auth_cache, ..options };
    let app = App::new(db::pool(database, connections), clock.clone(), options).unwrap();
    flush::open(&app.meter, &app.store.db, &clock).await.unwrap();
    app.lifecycle.enter(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = Shutdown::default();
    tokio::spawn(server::serve(app.clone(), listener, stop.clone()));
    (app, url, stop)
}

fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// A well-formed secret that is not valid.
pub fn unknown_secret(kind: SecretKind) -> String {
    Secret::generate(kind).expose().to_owned()
}
