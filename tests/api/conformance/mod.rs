//! What every driver must do, whatever it speaks to (docs/drivers.md): the same checks for each, which ask its capabilities
//! what to try. A new driver writes a `Subject` and one line, `conformance!`.

mod aws;
mod checks;
mod docker;
mod sim;

use std::{any::Any, fmt::Debug, sync::Arc, time::Duration};

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        driver::{
            Action, BoxFuture, Capabilities, Driver, DriverError, ListQuery, Object, ObjectState, Order, Owned,
            Refusal, Tags,
        },
        kind::{Kind, Power},
        spec::{InstanceSpec, NetworkSpec, Spec, VolumeSpec},
    },
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Makes one test of each check for a driver. `$start` gives a [`Subject`]; or none, having said why not.
macro_rules! conformance {
    ($start:path) => {
        crate::conformance::conformance! { $start:
            what_is_made_is_read_as_asked_and_listed_with_its_tags
            what_is_deleted_is_gone_and_may_be_deleted_again
            what_is_not_there_is_told_so
            a_creation_that_is_made_twice_is_found_in_whole
            a_volume_grows_and_never_shrinks
            an_update_puts_its_tags_on_what_was_made_elsewhere
            an_instance_is_turned_off_and_on_as_often_as_one_likes
            volumes_are_attached_detached_and_outlive_their_instance
            what_is_in_use_is_not_deleted
            an_instance_gets_another_size
            pages_have_everything_once
            each_deployment_and_provider_sees_its_own_alone
            words_that_are_listed_are_accepted_and_others_refused
            an_instance_is_not_made_in_a_network_that_is_not_there
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

/// A driver under test, and what a check must know of its provider.
pub struct Subject {
    /// The driver.
    pub driver: Arc<dyn Driver>,
    /// Another of the same place, under another provider's name.
    pub sibling: Arc<dyn Driver>,
    /// The deployment that it works for, which nobody else does.
    pub deployment: Uuid,
    /// Two sizes that instances can have.
    pub sizes: [String; 2],
    /// An image that instances can have.
    pub image: String,
    /// Whether its provider knows client tokens, so that a repeated creation makes nothing new.
    pub knows_tokens: bool,
    /// The second octet of networks' addresses, which nobody else at this provider uses.
    pub octet: u8,
    /// More volumes than a page holds, or as many as the provider bears.
    pub many: usize,
    /// How long the provider takes at the most until something is as asked.
    pub patience: Duration,
    /// Makes a volume of a GiB that carries no tag of ours; gives its reference.
    pub stray_volume: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
    /// What must live for as long as the test.
    pub _keep: Box<dyn Any + Send + Sync>,
}

impl Subject {
    /// What the driver can do.
    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    /// Whether it says that `member` of a `kind` can be changed.
    fn can_update(&self, kind: Kind, member: &str) -> bool {
        self.capabilities().of(kind).is_some_and(|can| can.updatable.contains(&member))
    }

    fn has(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.capabilities().of(*kind).is_some())
    }

    /// An order of a new resource.
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

    /// Of each kind that the driver has, an order that stands by itself.
    fn one_of_each(&self) -> Vec<Order> {
        let all = [self.network(0), self.volume(1), self.instance(None, &[])];
        all.into_iter().filter(|order| self.has(&[order.spec.kind()])).collect()
    }

    /// Makes an object and brings it to what was asked.
    async fn make(&self, order: &Order) -> Object {
        let made = self.insist(async || self.driver.create(order).await).await;
        assert_eq!(made.tags, Some(order.tags), "an object has its tags from the beginning");
        assert!(!made.reference.is_empty());
        self.converge(&made.reference, order, order.spec.kind().has_power().then_some(Power::On)).await
    }

    async fn read(&self, kind: Kind, reference: &str) -> Option<Object> {
        self.insist(async || self.driver.read(kind, reference).await).await
    }

    /// Calls until the call has succeeded: what may be tried again is, as the engine does. All else is a failure.
    async fn insist<T>(&self, call: impl AsyncFn() -> Result<T, DriverError>) -> T {
        let deadline = Instant::now() + self.patience;
        loop {
            match call().await {
                Ok(value) => return value,
                Err(DriverError { kind: Refusal::Retryable { .. } | Refusal::Conflict, .. })
                    if Instant::now() < deadline => {}
                Err(error) => panic!("{error} ({:?})", error.kind),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Why a call is refused, which must not succeed.
    async fn refusal<T: Debug>(&self, call: impl AsyncFn() -> Result<T, DriverError>) -> DriverError {
        let deadline = Instant::now() + self.patience;
        loop {
            let refused = call().await.unwrap_err();
            if !matches!(refused.kind, Refusal::Retryable { .. }) || Instant::now() >= deadline {
                return refused;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Brings an object to what was asked of it, one step after the other, as the engine does.
    async fn converge(&self, reference: &str, order: &Order, power: Option<Power>) -> Object {
        let kind = order.spec.kind();
        let deadline = Instant::now() + self.patience;
        loop {
            let object = self.read(kind, reference).await.unwrap_or_else(|| panic!("{reference} is not there"));
            assert_eq!(object.reference, reference);
            assert!(
                !matches!(object.state, ObjectState::Failed | ObjectState::Deleting),
                "{reference} stands as {:?}: {:?}",
                object.state,
                object.reason
            );
            let difference = order.spec.difference(&object.spec);
            if object.state == ObjectState::Ready {
                if !difference.is_empty() {
                    self.insist(async || self.driver.update(reference, order).await).await;
                } else if power.is_some() && object.power != power {
                    let action = Action::Power(power.unwrap());
                    self.insist(async || self.driver.action(kind, reference, action).await).await;
                } else {
                    return object;
                }
            }
            assert!(Instant::now() < deadline, "{reference} never became as asked: {difference:?}, {object:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deletes an object, and waits until it is gone.
    async fn remove(&self, kind: Kind, reference: &str) {
        let deadline = Instant::now() + self.patience;
        self.insist(async || self.driver.delete(kind, reference).await).await;
        while let Some(object) = self.read(kind, reference).await {
            assert!(Instant::now() < deadline, "{reference} does not go: {object:?}");
            sleep(Duration::from_millis(20)).await;
            // As the engine does, which asks again for as long as something is there.
            self.insist(async || self.driver.delete(kind, reference).await).await;
        }
    }

    /// All pages of what is listed.
    async fn list(&self, kind: Kind, of: Owned) -> Vec<Object> {
        self.list_at(&*self.driver, kind, self.deployment, of).await
    }

    async fn list_at(&self, driver: &dyn Driver, kind: Kind, deployment: Uuid, of: Owned) -> Vec<Object> {
        let mut query = ListQuery { kind, deployment, of, page: None };
        let mut objects = Vec::new();
        loop {
            let page = self.insist(async || driver.list_owned(&query).await).await;
            objects.extend(page.objects);
            query.page = page.next;
            if query.page.is_none() {
                return objects;
            }
        }
    }

    /// The references of what is listed.
    async fn listed(&self, kind: Kind, of: Owned) -> Vec<String> {
        let mut references: Vec<_> = self.list(kind, of).await.into_iter().map(|object| object.reference).collect();
        references.sort_unstable();
        references
    }
}
