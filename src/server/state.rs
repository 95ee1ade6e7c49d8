//! Application state. Workers take what they need from it, and handlers take its [`Parts`].

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::extract::FromRef;
use tokio::sync::Semaphore;

use crate::{
    api::{
        audit_logs::AuditContext,
        events::{
            EventContext,
            hub::{Hub, StreamOptions},
        },
        usage::{
            counting::meter::{Meter, MeterOptions},
            quota::QuotaEnforcer,
        },
        webhooks::{
            WebhookContext,
            outbox::{Outbox, WebhookOptions},
        },
    },
    audit::{chain::checkpoint::Signer, denial_counts::DenialCounts, metrics::SealerMetrics, read_counts::ReadCounts},
    auth::{bearer::Authenticator, limits::RateLimiters, passwords::Passwords, revocation::node::Node},
    base::{
        error::{Error, Result},
        input::{limit::LimitSettings, net::Cidr},
        runtime::{clock::Clock, lifecycle::Lifecycle},
        server_key::ServerKey,
    },
    db::Pool,
    http::{
        PublicUrl,
        layers::edge::{Edge, EdgeOptions},
    },
    metrics::{process::Process, requests::Requests},
    resources::{
        ResourceContext,
        cloud::{Cloud, CloudOptions},
    },
    server::supervision::status::{WorkerOptions, Workers},
    tx::{Store, Writes},
};

/// Maximum number of concurrent exports, so that exports use a fixed share of the pool's connections.
const EXPORT_READERS: usize = 2;

/// The application. Cheap to clone; all clones share the same state.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// Defines [`Parts`], and implements [`FromRef`] for the type of each part, so that handlers and extractors take it and
/// do not depend on the application.
macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident: $type:ty,)+) => {
        /// Parts of the application that handlers and extractors can take.
        #[derive(Debug)]
        pub struct Parts {
            $($(#[$doc])* pub $part: $type,)+
        }

        $(impl FromRef<App> for $type {
            fn from_ref(app: &App) -> Self {
                app.parts.$part.clone()
            }
        })+
    };
}

parts! {
    /// Database, writes and clock.
    store: Store,
    /// This server among the servers on the same database.
    node: Arc<Node>,
    /// Authenticates credentials.
    authenticator: Authenticator,
    /// Hashes and verifies passwords.
    passwords: Arc<Passwords>,
    /// URL where clients reach this server, without a trailing slash.
    public_url: PublicUrl,
    /// Audit trail, for its handlers.
    audit_logs: Arc<AuditContext>,
    /// Events.
    events: Arc<EventContext>,
    /// Webhooks.
    webhooks: Arc<WebhookContext>,
    /// Resources.
    resources: Arc<ResourceContext>,
}

/// Contents of [`App`].
#[derive(Debug)]
pub struct Shared {
    /// What handlers can take.
    pub parts: Parts,
    /// Server key, from which other keys are derived.
    pub server_key: ServerKey,
    /// Signs checkpoints for the deployment.
    pub signer: Arc<Signer>,
    /// Progress and metrics of sealing the audit trail.
    pub sealing: Arc<SealerMetrics>,
    /// Counts of denied requests since they were last written.
    pub denials: Arc<DenialCounts>,
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
    /// State that the HTTP layers share with the server.
    pub edge: Edge,
    /// Rate limits of credentials, and of failed attempts by address.
    pub limits: Arc<RateLimiters>,
    /// Interval of reading what is due in the deployment.
    pub pulse_interval: Duration,
    /// Retention of daily usage counts, in days.
    pub usage_retention_days: u32,
    /// Retention of the audit trail, in whole months. Without a value, entries are never removed.
    pub audit_retention_months: Option<u32>,
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
    /// Settings of the worker supervisor.
    pub workers: WorkerOptions,
    /// Interval of reading what is due in the deployment. Tests that write due work with SQL shorten it.
    pub pulse_interval: Duration,
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
            meter: MeterOptions::default(),
            usage_retention_days: 400,
            streams: StreamOptions::default(),
            webhooks: WebhookOptions::default(),
            cloud: CloudOptions::default(),
            workers: WorkerOptions::default(),
            pulse_interval: Duration::from_secs(1),
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
        let authenticator = Authenticator::new(Arc::clone(&node), clock.clone());
        let writes = Writes::new(Arc::clone(&node), clock.clone());
        let store = Store::new(db, writes, clock.clone());
        let signer = Arc::new(Signer::new(&options.server_key));
        let sealing = Arc::<SealerMetrics>::default();
        let public_url = PublicUrl(options.public_url.into());
        let parts = Parts {
            audit_logs: Arc::new(AuditContext {
                store: store.clone(),
                signer: Arc::clone(&signer),
                reads: ReadCounts::default(),
                export_readers: Arc::new(Semaphore::new(EXPORT_READERS)),
            }),
            events: Arc::new(EventContext {
                store: store.clone(),
                node: Arc::clone(&node),
                authenticator: authenticator.clone(),
                hub: Hub::new(options.streams),
                sealing: Arc::clone(&sealing),
                public_url: public_url.clone(),
            }),
            webhooks: Arc::new(WebhookContext {
                store: store.clone(),
                outbox: Outbox::new(options.webhooks, &options.server_key),
                lifecycle: Arc::clone(&lifecycle),
                sealing: Arc::clone(&sealing),
                public_url: public_url.clone(),
            }),
            resources: Arc::new(ResourceContext {
                cloud: Cloud::new(options.cloud, &store.db),
                store: store.clone(),
                lifecycle: Arc::clone(&lifecycle),
                sealing: Arc::clone(&sealing),
                public_url: public_url.clone(),
            }),
            passwords: Arc::new(Passwords::new()?),
            store,
            authenticator,
            node,
            public_url,
        };
        Ok(Self(Arc::new(Shared {
            parts,
            signer,
            sealing,
            denials: Arc::default(),
            server_key: options.server_key,
            meter: Arc::new(Meter::new(options.meter).map_err(Error::internal)?),
            requests: Arc::default(),
            process: Process { since: clock.now() },
            quota: Arc::new(QuotaEnforcer::new(clock)),
            edge: Edge::new(options.edge, Arc::clone(&lifecycle)),
            workers: Workers::new(options.workers),
            lifecycle,
            limits,
            pulse_interval: options.pulse_interval,
            usage_retention_days: options.usage_retention_days,
            audit_retention_months: options.audit_retention_months,
            trusted_proxies: options.trusted_proxies,
        })))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}
