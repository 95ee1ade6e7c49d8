//! Simulated provider for machines without a cloud. Its objects are rows in the database. Latency, failures and drift
//! follow the settings and are reproducible for a seed. The provider and each of its objects say that they are
//! simulated.

mod prng;
mod rows;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::{
    base::{id::OperationId, input::net::Cidr},
    db::Pool,
    resources::{
        drivers::driver::{
            Action, ActionType, BoxFuture, Capabilities, Driver, DriverError, DriverErrorKind, KindCapabilities,
            ListQuery, Object, ObjectPage, ObjectState, Order, OwnerFilter, Result, Tags, Unsupported,
        },
        kinds::{Kind, Power, spec::Spec},
    },
};
use prng::Prng;
use rows::Row;

const SIZES: &[&str] = &["small", "medium", "large", "xlarge"];
const IMAGES: &[&str] = &["alpine-3.22", "debian-12", "debian-13", "ubuntu-24.04"];
/// Maximum number of concurrent calls.
const MAX_CALLS: usize = 3;
/// Maximum number of objects on a page.
const PAGE: i64 = 100;

/// Settings of a simulation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimSettings {
    /// Seed of the pseudo-random numbers.
    pub seed: u64,
    /// Minimum time until a change takes effect, in milliseconds.
    pub latency_min_ms: u64,
    /// Maximum time until a change takes effect, in milliseconds.
    pub latency_max_ms: u64,
    /// Calls out of a thousand that fail, before or after they have taken effect.
    pub failures_per_mille: u16,
    /// Objects out of a thousand that change spontaneously, each time they are listed.
    pub drift_per_mille: u16,
}

impl Default for SimSettings {
    fn default() -> Self {
        Self { seed: 1, latency_min_ms: 100, latency_max_ms: 1000, failures_per_mille: 0, drift_per_mille: 0 }
    }
}

/// Simulated provider.
#[derive(Debug)]
pub struct Sim {
    name: String,
    db: Pool,
    prng: Prng,
    capabilities: Capabilities,
    /// Limits concurrent calls: a real provider would not use the server's database connections either.
    call_permits: Semaphore,
}

impl Sim {
    /// Creates the provider of this name, with its objects in `db`.
    pub fn new(name: String, settings: SimSettings, db: Pool) -> Self {
        Self {
            name,
            db,
            prng: Prng::new(settings),
            capabilities: capabilities(),
            call_permits: Semaphore::new(MAX_CALLS),
        }
    }

    /// Runs `work`, or simulates a failure before or after it.
    async fn call<T>(&self, work: impl Future<Output = sqlx::Result<Result<T>>> + Send) -> Result<T> {
        // The semaphore is never closed.
        let _permit = self.call_permits.acquire().await;
        let fails = self.prng.failure();
        if fails == Some(prng::Failure::Before) {
            return Err(simulated_failure());
        }
        let done = work.await.map_err(|error| {
            tracing::warn!(%error, provider = self.name, "database access of the simulated provider failed");
            DriverError::retryable("database", "the simulated provider's database did not respond")
        })?;
        if fails.is_some() { Err(simulated_failure()) } else { done }
    }

    fn object(&self, row: Row) -> Option<Object> {
        let spec = Spec::from_json(row.kind, row.spec.0).ok()?;
        let state = match (row.is_going, row.is_ready) {
            (true, _) => ObjectState::Deleting,
            (false, true) => ObjectState::Ready,
            (false, false) => ObjectState::Busy,
        };
        let tags = row.deployment.zip(row.resource_id).map(|(deployment, resource)| Tags { deployment, resource });
        let outputs = outputs(row.network, &row.reference);
        Some(Object { power: row.power, reference: row.reference, tags, state, spec, outputs, reason: None })
    }

    async fn insert(&self, order: &Order) -> sqlx::Result<Result<Object>> {
        let mut db = self.db.acquire().await?;
        for (member, reference) in order.spec.references() {
            if rows::get(&mut db, &self.name, member.kind(), reference).await?.is_none_or(|row| row.is_going) {
                return Ok(Err(not_found(reference)));
            }
        }
        let latency = self.prng.latency(order.operation);
        let row = rows::insert(&mut db, &self.name, order, latency).await?;
        Ok(self.object(row).ok_or_else(unreadable))
    }

    async fn change(&self, reference: &str, order: &Order) -> sqlx::Result<Result<()>> {
        let mut db = self.db.acquire().await?;
        let Some(row) = rows::get(&mut db, &self.name, order.spec.kind(), reference).await? else {
            return Ok(Err(not_found(reference)));
        };
        let fault = Spec::from_json(row.kind, row.spec.0).ok().and_then(|before| before.change_fault(&order.spec));
        if let Some(fault) = fault {
            return Ok(Err(DriverError::new(DriverErrorKind::Invalid, "cannot_change", fault.detail)));
        }
        rows::update(&mut db, &self.name, reference, order, self.prng.latency(order.operation)).await?;
        Ok(Ok(()))
    }

    async fn remove(&self, kind: Kind, reference: &str) -> sqlx::Result<Result<()>> {
        let mut db = self.db.acquire().await?;
        if let Some(user) = rows::find_dependent(&mut db, &self.name, kind, reference).await? {
            let message = format!("{reference} is still used by {user}");
            return Ok(Err(DriverError::new(DriverErrorKind::Conflict, "in_use", message)));
        }
        rows::delete(&mut db, &self.name, kind, reference, self.prng.latency(OperationId::new())).await?;
        Ok(Ok(()))
    }

    async fn page(&self, query: &ListQuery) -> sqlx::Result<Result<ObjectPage>> {
        let mut db = self.db.acquire().await?;
        let mut rows = rows::list(&mut db, &self.name, query, PAGE + 1).await?;
        let page_size = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let next = (rows.len() > page_size).then(|| rows.get(page_size - 1).map(|row| row.reference.clone())).flatten();
        rows.truncate(page_size);
        if query.owner == OwnerFilter::All {
            for row in rows.iter_mut().filter(|row| row.is_ready && self.prng.drifts(&row.reference)) {
                rows::drift(&mut db, &self.name, row).await?;
            }
        }
        Ok(Ok(ObjectPage { objects: rows.into_iter().filter_map(|row| self.object(row)).collect(), next }))
    }
}

impl Driver for Sim {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn validate(&self, spec: &Spec) -> Vec<Unsupported> {
        let Spec::Instance(spec) = spec else { return Vec::new() };
        let known = |member, given: &str, names: &[&str]| {
            let detail = || format!("unknown {member} '{given}'; use one of: {}", names.join(", "));
            (!names.contains(&given)).then(|| Unsupported { member, detail: detail() })
        };
        [known("size", &spec.size, SIZES), known("image", &spec.image, IMAGES)].into_iter().flatten().collect()
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Object>> {
        Box::pin(self.call(self.insert(order)))
    }

    fn read<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<Option<Object>>> {
        Box::pin(self.call(async move {
            let row = rows::get(&mut *self.db.acquire().await?, &self.name, kind, reference).await?;
            Ok(row.map(|row| self.object(row).ok_or_else(unreadable)).transpose())
        }))
    }

    fn update<'a>(&'a self, reference: &'a str, order: &'a Order) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(self.change(reference, order)))
    }

    fn action<'a>(&'a self, kind: Kind, reference: &'a str, action: Action) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(async move {
            let power = match action {
                Action::Power(power) => power,
                Action::Reboot => Power::On,
            };
            let latency = self.prng.latency(OperationId::new());
            let done =
                rows::set_power(&mut *self.db.acquire().await?, &self.name, kind, reference, power, latency).await?;
            Ok(if done { Ok(()) } else { Err(not_found(reference)) })
        }))
    }

    fn delete<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(self.remove(kind, reference)))
    }

    fn list_owned<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<ObjectPage>> {
        Box::pin(self.call(self.page(query)))
    }
}

fn capabilities() -> Capabilities {
    use ActionType as A;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let kind = |kind, actions: &[ActionType], updatable: &[&'static str]| {
        let is_instance = kind == Kind::Instance;
        KindCapabilities {
            kind,
            actions: actions.to_vec(),
            updatable: updatable.to_vec(),
            sizes: if is_instance { names(SIZES) } else { Vec::new() },
            images: if is_instance { names(IMAGES) } else { Vec::new() },
            native_terms: false,
        }
    };
    Capabilities {
        simulated: true,
        import: true,
        kinds: vec![
            kind(Kind::Network, &[], &[]),
            kind(Kind::Volume, &[A::Resize], &["size_gib"]),
            kind(
                Kind::Instance,
                &[A::Start, A::Stop, A::Reboot, A::Attach, A::Detach, A::Resize],
                &["size", "volumes"],
            ),
        ],
    }
}

/// Outputs of an object: its address, if it is in a network, and that it is simulated.
fn outputs(network: Option<String>, reference: &str) -> Map<String, Value> {
    let mut outputs = Map::from_iter([("simulated".to_owned(), json!(true))]);
    if let Some(network) = network.and_then(|cidr| cidr.parse::<Cidr>().ok()?.ipv4()) {
        let hosts = network.hosts();
        let nth = u64::from(crc32fast::hash(reference.as_bytes())) % (1 << (32 - network.prefix_len().clamp(16, 30)));
        let address =
            usize::try_from(nth).ok().and_then(|nth| hosts.clone().nth(nth)).or_else(|| network.hosts().next());
        outputs.extend(address.map(|address| ("private_ip".to_owned(), json!(address))));
    }
    outputs
}

fn simulated_failure() -> DriverError {
    DriverError::retryable("simulated_failure", "simulated failure, as configured by failures_per_mille")
}

fn not_found(reference: &str) -> DriverError {
    DriverError::new(DriverErrorKind::NotFound, "not_found", format!("{reference} does not exist"))
}

fn unreadable() -> DriverError {
    DriverError::new(DriverErrorKind::Invalid, "unreadable", "the object was written by another version of this server")
}
