//! Conformance tests that every driver must pass (docs/drivers.md). The checks follow the driver's capabilities. A new
//! driver needs a `Subject` and one line, `conformance!`.

mod aws;
mod checks;
mod docker;
mod sim;

use std::{any::Any, fmt::Debug, sync::Arc, time::Duration};

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        drivers::driver::{
            Action, BoxFuture, Capabilities, Driver, DriverError, DriverErrorKind, ListQuery, Object, ObjectState,
            Order, OwnerFilter, Tags,
        },
        kinds::{
            Kind, Power,
            spec::{InstanceSpec, NetworkSpec, Spec, VolumeSpec},
        },
    },
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Generates one test per check for a driver. `$start` returns a [`Subject`], or `None` after it has printed the
/// reason.
macro_rules! conformance {
    ($start:path) => {
        crate::conformance::conformance! { $start:
            created_object_matches_its_order_and_is_listed_with_its_tags
            deleted_object_is_not_found_and_repeated_deletion_succeeds
            unknown_references_are_not_found
            all_objects_of_a_repeated_creation_are_listed
            volume_can_grow_but_not_shrink
            update_tags_an_object_created_elsewhere
            power_actions_are_idempotent_and_repeatable
            volumes_are_attached_detached_and_outlive_their_instance
            objects_in_use_are_not_deleted
            instance_can_be_resized
            pagination_lists_each_object_once
            each_deployment_and_provider_lists_only_its_own_objects
            listed_sizes_and_images_are_valid_and_others_are_refused
            instance_is_not_created_in_a_missing_network
        }
    };
    ($start:path: $($check:ident)*) => {
        $(#[tokio::test]
        async fn $check() {
            if let Some(subject) = $start().await {
                $crate::conformance::checks::$check(&subject).await;
            }
        })*
    };
}
pub(crate) use conformance;

/// A driver under test, with properties of its provider.
pub struct Subject {
    /// The driver.
    pub driver: Arc<dyn Driver>,
    /// Another driver of the same account, with another provider name.
    pub other_driver: Arc<dyn Driver>,
    /// The deployment of the driver, used by no other test.
    pub deployment: Uuid,
    /// Two valid sizes of instances.
    pub sizes: [String; 2],
    /// A valid image of instances.
    pub image: String,
    /// Whether the provider supports client tokens, so that a repeated creation creates nothing new.
    pub supports_client_tokens: bool,
    /// The second octet of networks' addresses, used by nobody else at this provider.
    pub octet: u8,
    /// More volumes than a page holds, or as many as the provider allows.
    pub many: usize,
    /// Time limit for an object to reach its requested state.
    pub timeout: Duration,
    /// Creates a volume of 1 GiB without CloudAPI's tags; returns its reference.
    pub create_untagged_volume: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
    /// Values that must live as long as the test.
    pub _keep: Box<dyn Any + Send + Sync>,
}

impl Subject {
    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    /// Whether the driver can update `member` of a `kind`.
    fn can_update(&self, kind: Kind, member: &str) -> bool {
        self.capabilities().of(kind).is_some_and(|can| can.updatable.contains(&member))
    }

    fn has(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.capabilities().of(*kind).is_some())
    }

    /// An order for a new resource.
    fn order(&self, spec: Spec<String>) -> Order {
        Order {
            tags: Tags { deployment: self.deployment, resource: ResourceId::new() },
            operation: OperationId::new(),
            name: "conformance".into(),
            labels: [("env".to_owned(), "ci-4711".to_owned()), ("team/owner".to_owned(), String::new())].into(),
            spec,
        }
    }

    /// The `nth` network of this test.
    fn network(&self, nth: u8) -> Order {
        let cidr = format!("10.{}.{nth}.0/24", self.octet).parse().unwrap();
        self.order(Spec::Network(NetworkSpec { cidr }))
    }

    fn volume(&self, size_gib: u32) -> Order {
        self.order(Spec::Volume(VolumeSpec { size_gib }))
    }

    fn instance(&self, network: Option<&str>, volumes: &[&str]) -> Order {
        self.order(Spec::Instance(InstanceSpec {
            size: self.sizes[0].clone(),
            image: self.image.clone(),
            network: network.map(Into::into),
            volumes: volumes.iter().map(|&volume| volume.to_owned()).collect(),
        }))
    }

    /// An independent order for each kind that the driver supports.
    fn one_of_each(&self) -> Vec<Order> {
        let all = [self.network(0), self.volume(1), self.instance(None, &[])];
        all.into_iter().filter(|order| self.has(&[order.spec.kind()])).collect()
    }

    /// Creates an object and waits until it converges.
    async fn make(&self, order: &Order) -> Object {
        let created = self.retry(async || self.driver.create(order).await).await;
        assert_eq!(created.tags, Some(order.tags), "object created without its tags");
        assert!(!created.reference.is_empty());
        self.converge(&created.reference, order, order.spec.kind().has_power().then_some(Power::On)).await
    }

    async fn read(&self, kind: Kind, reference: &str) -> Option<Object> {
        self.retry(async || self.driver.read(kind, reference).await).await
    }

    /// Retries retryable refusals until the call succeeds, as the engine does. Other errors fail the test.
    async fn retry<T>(&self, call: impl AsyncFn() -> Result<T, DriverError>) -> T {
        let deadline = Instant::now() + self.timeout;
        loop {
            match call().await {
                Ok(value) => return value,
                Err(DriverError { kind: DriverErrorKind::Retryable { .. } | DriverErrorKind::Conflict, .. })
                    if Instant::now() < deadline => {}
                Err(error) => panic!("{error} ({:?})", error.kind),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The refusal of a call that must not succeed.
    async fn expect_error<T: Debug>(&self, call: impl AsyncFn() -> Result<T, DriverError>) -> DriverError {
        let deadline = Instant::now() + self.timeout;
        loop {
            let error = call().await.unwrap_err();
            if !matches!(error.kind, DriverErrorKind::Retryable { .. }) || Instant::now() >= deadline {
                return error;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Converges an object to its order step by step, as the engine does.
    async fn converge(&self, reference: &str, order: &Order, power: Option<Power>) -> Object {
        let kind = order.spec.kind();
        let deadline = Instant::now() + self.timeout;
        loop {
            let object = self.read(kind, reference).await.unwrap_or_else(|| panic!("{reference} does not exist"));
            assert_eq!(object.reference, reference);
            assert!(
                !matches!(object.state, ObjectState::Failed | ObjectState::Deleting),
                "{reference} is {:?}: {:?}",
                object.state,
                object.reason
            );
            let difference = order.spec.difference(&object.spec);
            if object.state == ObjectState::Ready {
                if !difference.is_empty() {
                    self.retry(async || self.driver.update(reference, order).await).await;
                } else if power.is_some() && object.power != power {
                    let action = Action::Power(power.unwrap());
                    self.retry(async || self.driver.action(kind, reference, action).await).await;
                } else {
                    return object;
                }
            }
            assert!(Instant::now() < deadline, "{reference} did not converge: {difference:?}, {object:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deletes an object and waits until it no longer exists.
    async fn remove(&self, kind: Kind, reference: &str) {
        let deadline = Instant::now() + self.timeout;
        self.retry(async || self.driver.delete(kind, reference).await).await;
        while let Some(object) = self.read(kind, reference).await {
            assert!(Instant::now() < deadline, "{reference} not deleted: {object:?}");
            sleep(Duration::from_millis(20)).await;
            // The engine also repeats the deletion while the object exists.
            self.retry(async || self.driver.delete(kind, reference).await).await;
        }
    }

    /// The objects of all pages.
    async fn list(&self, kind: Kind, of: OwnerFilter) -> Vec<Object> {
        self.list_at(&*self.driver, kind, self.deployment, of).await
    }

    async fn list_at(&self, driver: &dyn Driver, kind: Kind, deployment: Uuid, of: OwnerFilter) -> Vec<Object> {
        let mut query = ListQuery { kind, deployment, owner: of, cursor: None };
        let mut objects = Vec::new();
        loop {
            let page = self.retry(async || driver.list_owned(&query).await).await;
            objects.extend(page.objects);
            query.cursor = page.next;
            if query.cursor.is_none() {
                return objects;
            }
        }
    }

    /// The references of all listed objects.
    async fn listed(&self, kind: Kind, of: OwnerFilter) -> Vec<String> {
        let mut references: Vec<_> = self.list(kind, of).await.into_iter().map(|object| object.reference).collect();
        references.sort_unstable();
        references
    }
}
