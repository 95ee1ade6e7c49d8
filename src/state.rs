//! Application state for handlers and workers.

use std::{ops::Deref, sync::Arc};

use tokio::sync::Semaphore;

use crate::{
    audit::{checkpoint::Signer, denial_counts::DenialCounts, metrics::SealerMetrics, read_counts::ReadCounts},
    auth::{bearer::Authenticator, grant::HasNode, limits::RateLimiters, node::Node, password::Passwords},
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
        quota::QuotaEnforcer,
    },
    webhooks::outbox::{Outbox, WebhookOptions},
    workers::status::{WorkerOptions, Workers},
};

/// Maximum number of concurrent exports, so that exports use a fixed share of the pool's connections.
const EXPORT_READERS: usize = 2;

/// The application. Cheap to clone; all clones share the same state.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// Contents of [`App`].
#[derive(Debug)]
pub struct Shared {
    /// Database pool for reads.
    pub db: Pool,
    /// Database access for writes.
    pub writes: Writes,
    /// Clock.
    pub clock: Clock,
    /// This server among the servers on the same database.
    pub node: Arc<Node>,
    /// Authenticates credentials.
    pub authenticator: Authenticator,
    /// Server key, from which other keys are derived.
    pub server_key: ServerKey,
    /// Signs checkpoints for the deployment.
    pub signer: Arc<Signer>,
    /// Progress and metrics of sealing the audit trail.
    pub sealing: Arc<SealerMetrics>,
    /// Counts of denied requests since they were last written.
    pub denials: DenialCounts,
    /// Sends webhook deliveries.
    pub outbox: Outbox,
    /// Providers of resources.
    pub cloud: Cloud,
    /// Reads of the audit trail that are not recorded yet.
    pub reads: ReadCounts,
    /// Permits for exports to read from the database.
    pub export_readers: Arc<Semaphore>,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// Counts requests.
    pub meter: Arc<Meter>,
    /// Metrics of requests and responses.
    pub requests: Arc<Requests>,
    /// Metrics of the process.
    pub process: Process,
    /// Callers that have used up their quota.
    pub quota: Arc<QuotaEnforcer>,
    /// State of the background workers.
    pub workers: Workers,
    /// Lifecycle phase of the server.
    pub lifecycle: Arc<Lifecycle>,
    /// Distributes events to event streams.
    pub hub: Arc<Hub>,
    /// State that the HTTP layers share with the server.
    pub edge: Edge,
    /// Rate limits of credentials, and of failed attempts by address.
    pub limits: Arc<RateLimiters>,
    /// Retention of daily usage counts, in days.
    pub usage_retention_days: u32,
    /// Retention of the audit trail, in whole months. Without a value, entries are never removed.
    pub audit_retention_months: Option<u32>,
    /// URL where clients reach this server, without a trailing slash.
    pub public_url: String,
    /// Proxies whose forwarded client address is trusted.
    pub trusted_proxies: Vec<Cidr>,
}

/// Settings of an application.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// URL where clients reach this server, without a trailing slash.
    pub public_url: String,
    /// Proxies whose forwarded client address is trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// Rate limits of credentials, and of failed attempts by address.
    pub limits: LimitSettings,
    /// Settings of the HTTP layers.
    pub edge: EdgeOptions,
    /// The deployment's key.
    pub server_key: ServerKey,
    /// Whether credentials are authenticated from a cache.
    pub auth_cache: bool,
    /// Whether writes are recorded in the audit trail. Only a benchmark turns this off.
    pub audit: bool,
    /// Settings of request counting.
    pub meter: MeterOptions,
    /// Retention of daily usage counts, in days.
    pub usage_retention_days: u32,
    /// Settings of event streams.
    pub streams: StreamOptions,
    /// Settings of webhook deliveries.
    pub webhooks: WebhookOptions,
    /// Settings of providers of resources.
    pub cloud: CloudOptions,
    /// Settings of the worker supervisor. Only tests change them.
    pub workers: WorkerOptions,
    /// Retention of the audit trail, in whole months. Without a value, entries are never removed.
    pub audit_retention_months: Option<u32>,
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
            usage_retention_days: 400,
            streams: StreamOptions::default(),
            webhooks: WebhookOptions::default(),
            cloud: CloudOptions::default(),
            workers: WorkerOptions::default(),
            audit_retention_months: None,
        }
    }
}

impl App {
    /// Creates an application on `db`.
    pub fn new(db: Pool, clock: Clock, options: AppOptions) -> Result<Self> {
        let lifecycle = Arc::<Lifecycle>::default();
        let limits = Arc::new(RateLimiters::new(options.limits, clock.clone()));
        let node = Node::new(db.clone(), options.auth_cache);
        Ok(Self(Arc::new(Shared {
            writes: Writes::new(Arc::clone(&node), clock.clone()).with_audit(options.audit),
            authenticator: Authenticator::new(Arc::clone(&node), clock.clone()),
            node,
            cloud: Cloud::new(options.cloud, &db),
            db,
            signer: Arc::new(Signer::new(&options.server_key)),
            sealing: Arc::default(),
            denials: DenialCounts::default(),
            outbox: Outbox::new(options.webhooks, &options.server_key),
            reads: ReadCounts::default(),
            export_readers: Arc::new(Semaphore::new(EXPORT_READERS)),
            server_key: options.server_key,
            passwords: Passwords::new()?,
            meter: Arc::new(Meter::new(options.meter).map_err(Error::internal)?),
            requests: Arc::default(),
            process: Process { since: clock.now() },
            quota: Arc::new(QuotaEnforcer::new(clock.clone())),
            hub: Hub::new(options.streams),
            edge: Edge::new(options.edge, Arc::clone(&lifecycle)),
            workers: Workers::new(options.workers),
            lifecycle,
            clock,
            limits,
            usage_retention_days: options.usage_retention_days,
            audit_retention_months: options.audit_retention_months,
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
