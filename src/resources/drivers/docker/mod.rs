//! Driver for containers, volumes and networks of a Docker engine, for development.
//!
//! An engine has no client tokens, but it rejects a second container or volume of the same name, and a second network
//! with the same addresses. An object's name is derived from its resource's id, so a second creation finds the first
//! object. Labels are set on creation and cannot change, so labels other than the owner's reflect the time of creation.

mod failure;
mod instances;
mod labels;
mod networks;
mod pulls;
mod settings;
mod volumes;

use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker as Engine};
use tokio::{sync::OnceCell, time::timeout};

use crate::resources::{
    drivers::driver::{
        Action, ActionType, BoxFuture, Capabilities, Driver, DriverError, DriverErrorKind, KindCapabilities, ListQuery,
        Object, ObjectPage, Order, Result, Unsupported,
    },
    kinds::{Kind, spec::Spec},
};
use failure::driver_error;
use pulls::Pulls;
pub use settings::{DockerSettings, SettingsError, Size};

/// Time limit of a call. Stopping a container takes up to ten seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// Maximum number of objects on a page.
const PAGE_SIZE: usize = 100;

/// Docker engine.
#[derive(Debug)]
pub struct Docker {
    name: String,
    settings: DockerSettings,
    capabilities: Capabilities,
    /// Connected on the first call, so that a server starts without its providers.
    engine: OnceCell<Engine>,
    pulls: Pulls,
}

impl Docker {
    /// Creates the provider of this name.
    pub fn new(name: String, settings: DockerSettings) -> Self {
        let capabilities = capabilities(&settings);
        Self { name, settings, capabilities, engine: OnceCell::new(), pulls: Pulls::default() }
    }

    /// Connects to the engine and negotiates the API version.
    async fn engine(&self) -> Result<&Engine> {
        let connect = || async {
            let socket = self.settings.socket.to_string_lossy();
            Engine::connect_with_unix(&socket, CALL_TIMEOUT.as_secs(), API_DEFAULT_VERSION)?.negotiate_version().await
        };
        self.engine.get_or_try_init(connect).await.map_err(driver_error)
    }

    /// Runs `work` with a time limit.
    async fn call<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let on_timeout = |_| DriverError::retryable("timeout", "the Docker engine did not respond in time");
        timeout(CALL_TIMEOUT, work).await.map_err(on_timeout)?
    }

    async fn create_object(&self, order: &Order) -> Result<Object> {
        match &order.spec {
            Spec::Network(spec) => self.create_network(order, spec).await,
            Spec::Volume(_) => self.create_volume(order).await,
            Spec::Instance(spec) => self.create_instance(order, spec).await,
        }
    }

    async fn read_object(&self, kind: Kind, reference: &str) -> Result<Option<Object>> {
        if !is_reference(reference) {
            return Ok(None);
        }
        match kind {
            Kind::Network => self.read_network(reference).await,
            Kind::Volume => self.read_volume(reference).await,
            Kind::Instance => self.read_instance(reference).await,
        }
    }

    /// Only an instance's size can change. Names and labels stay as they are, because Docker cannot change them.
    async fn update_object(&self, reference: &str, order: &Order) -> Result<()> {
        let kind = order.spec.kind();
        let Some(found) = self.read_object(kind, reference).await? else { return Err(failure::not_found(reference)) };
        if found.tags != Some(order.tags) {
            return Err(failure::immutable("the labels"));
        }
        let mut difference = order.spec.difference(&found.spec);
        let resized = kind == Kind::Instance && difference.remove("size").is_some();
        if !difference.is_empty() {
            let members: Vec<&str> = difference.keys().map(String::as_str).collect();
            return Err(failure::immutable(&members.join(" and ")));
        }
        match &order.spec {
            Spec::Instance(spec) if resized => self.resize_instance(reference, &spec.size).await,
            _ => Ok(()),
        }
    }

    async fn run_action(&self, kind: Kind, reference: &str, action: Action) -> Result<()> {
        if kind != Kind::Instance {
            return Err(DriverError::new(
                DriverErrorKind::Invalid,
                "no_power",
                "only instances can be turned on and off",
            ));
        }
        if !is_reference(reference) {
            return Err(failure::not_found(reference));
        }
        self.turn_instance(reference, action).await
    }

    async fn delete_object(&self, kind: Kind, reference: &str) -> Result<()> {
        if !is_reference(reference) {
            return Ok(());
        }
        match kind {
            Kind::Network => self.delete_network(reference).await,
            Kind::Volume => self.delete_volume(reference).await,
            Kind::Instance => self.delete_instance(reference).await,
        }
    }

    async fn list_page(&self, query: &ListQuery) -> Result<ObjectPage> {
        match query.kind {
            Kind::Network if self.settings.networking => self.list_networks(query).await,
            Kind::Network => Ok(ObjectPage::default()),
            Kind::Volume => self.list_volumes(query).await,
            Kind::Instance => self.list_instances(query).await,
        }
    }
}

impl Driver for Docker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn validate(&self, spec: &Spec) -> Vec<Unsupported> {
        let mut unsupported = Vec::new();
        let mut no_networks = |member| {
            let detail = "this provider does not support networks".to_owned();
            unsupported.push(Unsupported { member, detail });
        };
        match spec {
            Spec::Network(_) if !self.settings.networking => no_networks("cidr"),
            Spec::Instance(spec) => {
                if spec.network.is_some() && !self.settings.networking {
                    no_networks("network");
                }
                if !self.settings.sizes.contains_key(&spec.size) {
                    let names: Vec<&str> = self.settings.sizes.keys().map(String::as_str).collect();
                    let detail = format!("unknown size '{}'; use one of: {}", spec.size, names.join(", "));
                    unsupported.push(Unsupported { member: "size", detail });
                }
            }
            Spec::Network(_) | Spec::Volume(_) => {}
        }
        unsupported
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Object>> {
        Box::pin(self.call(self.create_object(order)))
    }

    fn read<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<Option<Object>>> {
        Box::pin(self.call(self.read_object(kind, reference)))
    }

    fn update<'a>(&'a self, reference: &'a str, order: &'a Order) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(self.update_object(reference, order)))
    }

    fn action<'a>(&'a self, kind: Kind, reference: &'a str, action: Action) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(self.run_action(kind, reference, action)))
    }

    fn delete<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(self.delete_object(kind, reference)))
    }

    fn list_owned<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<ObjectPage>> {
        Box::pin(self.call(self.list_page(query)))
    }
}

fn capabilities(settings: &DockerSettings) -> Capabilities {
    let plain = |kind| KindCapabilities {
        kind,
        actions: Vec::new(),
        updatable: Vec::new(),
        sizes: Vec::new(),
        images: Vec::new(),
        native_terms: false,
    };
    let instance = KindCapabilities {
        actions: vec![ActionType::Start, ActionType::Stop, ActionType::Reboot, ActionType::Resize],
        updatable: vec!["size"],
        sizes: settings.sizes.keys().cloned().collect(),
        images: settings.images.keys().cloned().collect(),
        native_terms: true,
        ..plain(Kind::Instance)
    };
    let network = settings.networking.then(|| plain(Kind::Network));
    let kinds = network.into_iter().chain([plain(Kind::Volume), instance]).collect();
    // Objects that were created elsewhere cannot receive labels.
    Capabilities { simulated: false, import: false, kinds }
}

/// Whether `text` is a valid reference. It becomes part of a URL path.
fn is_reference(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Returns the requested page out of all objects, because the engine's API has no pages.
fn page_of<T>(query: &ListQuery, mut all: Vec<(String, T)>) -> (Vec<(String, T)>, Option<String>) {
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let start =
        query.cursor.as_deref().map_or(0, |after| all.partition_point(|(reference, _)| reference.as_str() <= after));
    let mut page = all.split_off(start);
    let more = page.len() > PAGE_SIZE;
    page.truncate(PAGE_SIZE);
    let next = page.last().filter(|_| more).map(|(reference, _)| reference.clone());
    (page, next)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::resources::drivers::driver::OwnerFilter;

    #[test]
    fn pages_contain_each_object_exactly_once() {
        let all: Vec<(String, ())> = (0..250).rev().map(|n| (format!("{n:03}"), ())).collect();
        let mut query =
            ListQuery { kind: Kind::Volume, deployment: Uuid::nil(), owner: OwnerFilter::All, cursor: None };
        let mut seen = Vec::new();
        for pages in 1.. {
            let (page, next) = page_of(&query, all.clone());
            seen.extend(page.into_iter().map(|(reference, ())| reference));
            query.cursor = next;
            if query.cursor.is_none() {
                assert_eq!(pages, 3);
                break;
            }
        }
        assert_eq!(seen, (0..250).map(|n| format!("{n:03}")).collect::<Vec<_>>());
        let exact = all[..100].to_vec();
        assert_eq!(page_of(&ListQuery { cursor: None, ..query }, exact).1, None);
    }

    #[test]
    fn reference_cannot_escape_its_path_segment() {
        assert!(is_reference("cloudapi-res_1") && is_reference(&"0a".repeat(32)));
        for text in ["", "..", ".", "a/b", "a?b", "a%2fb", "a b"] {
            assert!(!is_reference(text), "{text}");
        }
    }
}
