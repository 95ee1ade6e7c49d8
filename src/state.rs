//! What handlers may reach.

use std::{ops::Deref, sync::Arc};

use tokio::sync::Semaphore;

use crate::{
    audit::{checkpoint::Signer, figures::Figures, reads::Reads, tally::Tally},
    auth::{bearer::Authenticator, grant::HasNode, limits::Limits, node::Node, password::Passwords},
    base::{
        clock::Clock,
        error::{Error, Result},
        lifecycle::Lifecycle,
        limit::LimitSettings,
        net::Cidr,
        server_key::ServerKey,
    },
    db::Pool,
    events::hub::{Hub, StreamOptions},
    http::edge::{Edge, EdgeOptions},
    metrics::{process::Process, requests::Requests},
    resources::cloud::{Cloud, CloudOptions},
    tx::Writes,
    usage::{
        meter::{Meter, MeterOptions},
        quota::Quota,
    },
    webhooks::outbox::{Outbox, WebhookOptions},
    workers::figures::{WorkerOptions, Workers},
};

/// How many exports read at a time: however many there are, they take no more of the pool's connections.
const EXPORT_READERS: usize = 2;

/// The application: cheap to clone, the same for all.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// What [`App`] holds.
#[derive(Debug)]
pub struct Shared {
    /// The database, for reads.
    pub db: Pool,
    /// The database, for writes.
    pub writes: Writes,
    /// The time.
    pub clock: Clock,
    /// This server among those on the same database.
    pub node: Arc<Node>,
    /// Recognises credentials.
    pub authenticator: Authenticator,
    /// What is used again as it is, is sealed or derived under this.
    pub server_key: ServerKey,
    /// Signs for the deployment.
    pub signer: Arc<Signer>,
    /// How the sealing of the audit trail goes, and how far it has come.
    pub sealing: Arc<Figures>,
    /// What was refused since that was last written.
    pub refusals: Tally,
    /// Where webhooks' deliveries leave from.
    pub outbox: Outbox,
    /// Where resources are.
    pub cloud: Cloud,
    /// Who has read the audit trail, as far as that is not told yet.
    pub reads: Reads,
    /// Who of those that export it may read now.
    pub export_readers: Arc<Semaphore>,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// Counts requests.
    pub meter: Arc<Meter>,
    /// How requests were answered, for the operator.
    pub requests: Arc<Requests>,
    /// The process, for the operator.
    pub process: Process,
    /// Who has used up what they may.
    pub quota: Arc<Quota>,
    /// How its background workers do.
    pub workers: Workers,
    /// Where the server is in its life.
    pub lifecycle: Arc<Lifecycle>,
    /// Hands events to those who follow them.
    pub hub: Arc<Hub>,
    /// What the outer layers share with the server.
    pub edge: Edge,
    /// How often credentials may be used, and addresses may fail.
    pub limits: Arc<Limits>,
    /// For how many days the counts of each day are kept.
    pub usage_days_kept: u32,
    /// For how many whole months the audit trail is kept; for ever if it is none.
    pub audit_months_kept: Option<u32>,
    /// Where clients reach this server, without a slash at its end.
    pub public_url: String,
    /// The proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<Cidr>,
}

/// What the operator decides about an application.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// Where clients reach this server, without a slash at its end.
    pub public_url: String,
    /// The proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<Cidr>,
    /// How often credentials may be used, and addresses may fail.
    pub limits: LimitSettings,
    /// How the server meets the network.
    pub edge: EdgeOptions,
    /// The deployment's key.
    pub server_key: ServerKey,
    /// Whether credentials are answered from a cache.
    pub auth_cache: bool,
    /// Whether writes are told of in the audit trail, which only a benchmark does without.
    pub audit: bool,
    /// How requests are counted.
    pub meter: MeterOptions,
    /// For how many days the counts of each day are kept.
    pub usage_days_kept: u32,
    /// How event streams are served.
    pub streams: StreamOptions,
    /// How webhooks are sent.
    pub webhooks: WebhookOptions,
    /// Where resources are.
    pub cloud: CloudOptions,
    /// How background workers are supervised, which only a test changes.
    pub workers: WorkerOptions,
    /// For how many whole months the audit trail is kept; for ever if it is none.
    pub audit_months_kept: Option<u32>,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            limits: LimitSettings::default(),
            edge: EdgeOptions::default(),
            server_key: ServerKey::generate(),
            auth_cache: true,
            audit: true,
            meter: MeterOptions::default(),
            usage_days_kept: 400,
            streams: StreamOptions::default(),
            webhooks: WebhookOptions::default(),
            cloud: CloudOptions::default(),
            workers: WorkerOptions::default(),
            audit_months_kept: None,
        }
    }
}

impl App {
    /// An application on `db`.
    pub fn new(db: Pool, clock: Clock, options: AppOptions) -> Result<Self> {
        let lifecycle = Arc::<Lifecycle>::default();
        let limits = Arc::new(Limits::new(options.limits, clock.clone()));
        let node = Node::new(db.clone(), options.auth_cache);
        Ok(Self(Arc::new(Shared {
            writes: Writes::new(Arc::clone(&node), clock.clone()).audited(options.audit),
            authenticator: Authenticator::new(Arc::clone(&node), clock.clone()),
            node,
            cloud: Cloud::new(options.cloud, &db),
            db,
            signer: Arc::new(Signer::new(&options.server_key)),
            sealing: Arc::default(),
            refusals: Tally::default(),
            outbox: Outbox::new(options.webhooks, &options.server_key),
            reads: Reads::default(),
            export_readers: Arc::new(Semaphore::new(EXPORT_READERS)),
            server_key: options.server_key,
            passwords: Passwords::new()?,
            meter: Arc::new(Meter::new(options.meter).map_err(Error::internal)?),
            requests: Arc::default(),
            process: Process { since: clock.now() },
            quota: Arc::new(Quota::new(clock.clone())),
            hub: Hub::new(options.streams),
            edge: Edge::new(options.edge, Arc::clone(&lifecycle)),
            workers: Workers::new(options.workers),
            lifecycle,
            clock,
            limits,
            usage_days_kept: options.usage_days_kept,
            audit_months_kept: options.audit_months_kept,
            public_url: options.public_url,
            trusted_proxies: options.trusted_proxies,
        })))
    }
}

impl HasNode for App {
    fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
