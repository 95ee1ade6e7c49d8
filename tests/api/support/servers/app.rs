//! A server with its own database, served on a real socket.

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
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use crate::support::{
    cloud, cluster, eventually,
    identity::{Anonymous, Identity, Session},
    leak_detector::{LeakDetector, Leaks},
    not_at_midnight,
};
use serde_json::json;

/// The base URL in the `type` of problems.
pub const PUBLIC_URL: &str = "https://api.example.com";

/// Interval of reading due work, because tests write some with SQL.
const PULSE_INTERVAL: Duration = Duration::from_millis(50);

/// One server and its database.
pub struct TestApp {
    app: App,
    /// Its database, through the server's connection pool but without its failure detection.
    pub db: PgPool,
    /// The URL of the server.
    pub url: String,
    /// A client that follows no redirects and uses no proxy.
    pub http: reqwest::Client,
    /// The server's clock.
    pub clock: Clock,
    /// Finds secrets that the server must not store or log.
    pub leak_detector: LeakDetector,
    _stop: DropGuard,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // A test that fails has its own reason.
        if !std::thread::panicking() {
            assert_eq!(self.leak_detector.leaks(), Leaks::default(), "secrets leaked");
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
        Self::start_exactly(database, clock, AppOptions { pulse_interval: PULSE_INTERVAL, ..options }).await
    }

    /// Starts a server whose background work is as frequent as in production.
    pub async fn start_unhurried(database: PgConnectOptions, options: AppOptions) -> Self {
        Self::start_exactly(database, Clock::system(), options).await
    }

    async fn start_exactly(database: PgConnectOptions, clock: Clock, options: AppOptions) -> Self {
        // The whole suite also passes without the cache: cached responses must equal those from the database.
        let auth_cache = options.auth_cache && env::var_os("TEST_WITHOUT_AUTH_CACHE").is_none();
        let options = AppOptions { public_url: PUBLIC_URL.to_owned(), auth_cache, ..options };
        let leak_detector = LeakDetector::new(database.clone());
        let app = App::new(db::pool(database, 8), clock.clone(), options).unwrap();
        flush::open(&app.meter, &app.store.db, &clock).await.unwrap();
        app.lifecycle.enter(Phase::Serving);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = Shutdown::default();
        tokio::spawn(server::serve(app.clone(), listener, stop.clone()));
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        let db = PgPool::clone(&app.store.db);
        Self { app, db, url, http, clock, leak_detector, _stop: stop.drop_guard() }
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
        let project: ProjectId = owner.project.parse().unwrap();
        let mut db = self.db.acquire().await.unwrap();
        users::repo::insert_member(&mut db, project, session.user_id, role, MemberStatus::Active, self.clock.now())
            .await
            .unwrap();
        session.project.clone_from(&owner.project);
        session
    }

    /// Signs in a new user with this email address.
    pub async fn sign_in_new(&self, id: UserId, email: &str) -> Session<'_> {
        let email: Email = email.parse().unwrap();
        let mut db = self.db.acquire().await.unwrap();
        users::repo::find_or_insert(&mut db, id, &email, self.clock.now()).await.unwrap();
        let issued = sessions::repo::issue(&mut db, id, email.clone(), self.clock.now()).await.unwrap();
        Session {
            app: self,
            user_id: id,
            email: email.to_string(),
            id: issued.id.to_string(),
            secret: issued.token.expose().to_owned(),
            project: String::new(),
        }
    }

    /// Another session of the same user, in the same project.
    pub async fn another_session(&self, user: &Session<'_>) -> Session<'_> {
        let mut db = self.db.acquire().await.unwrap();
        let email: Email = user.email.parse().unwrap();
        let issued = sessions::repo::issue(&mut db, user.user_id, email, self.clock.now()).await.unwrap();
        Session {
            app: self,
            user_id: user.user_id,
            email: user.email.clone(),
            id: issued.id.to_string(),
            secret: issued.token.expose().to_owned(),
            project: user.project.clone(),
        }
    }

    /// Sets a user's password.
    pub async fn set_password(&self, user: &Session<'_>, password: &str) {
        self.leak_detector.record(password);
        let hash = self.passwords.hash(password.into()).await.unwrap();
        let mut db = self.db.acquire().await.unwrap();
        accounts::set_password_hash(&mut db, user.user_id, &hash).await.unwrap();
    }

    /// Flushes the server's usage counters to the database.
    pub async fn flush_usage(&self) {
        flush::flush_or_log(&self.meter, &self.db, &self.clock).await;
        flush::refresh(&self.quota, &self.db, &self.clock).await.unwrap();
    }
}

/// A well-formed secret that is not valid.
pub fn unknown_secret(kind: SecretKind) -> String {
    Secret::generate(kind).expose().to_owned()
}
