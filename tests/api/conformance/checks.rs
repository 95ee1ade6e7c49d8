//! The checks. Each needs exclusive use of a driver and leaves no objects at its provider.

use std::{collections::BTreeSet, slice};

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        drivers::driver::{Action, ActionType, DriverErrorKind, ObjectState, Order, OwnerFilter, Tags},
        kinds::{
            Kind, Power,
            spec::{InstanceSpec, Spec},
        },
    },
};
use uuid::Uuid;

use super::Subject;

/// The same order with other volumes.
fn with_volumes(order: &Order, volumes: &[&str]) -> Order {
    let mut order = Order { operation: OperationId::new(), ..order.clone() };
    if let Spec::Instance(InstanceSpec { volumes: asked, .. }) = &mut order.spec {
        *asked = volumes.iter().map(|&volume| volume.to_owned()).collect();
    }
    order
}

pub async fn created_object_matches_its_order_and_is_listed_with_its_tags(subject: &Subject) {
    for order in subject.one_of_each() {
        let kind = order.spec.kind();
        let object = subject.make(&order).await;
        assert_eq!((object.state, object.tags), (ObjectState::Ready, Some(order.tags)));
        assert_eq!(order.spec.difference(&object.spec), serde_json::Map::new());
        assert_eq!(object.power, kind.has_power().then_some(Power::On));
        let of = OwnerFilter::Resource(order.tags.resource);
        assert_eq!(subject.list(kind, of).await, slice::from_ref(&object), "listed object differs from read object");
        assert_eq!(subject.listed(kind, OwnerFilter::All).await, slice::from_ref(&object.reference));
        assert!(!subject.listed(kind, OwnerFilter::Untagged).await.contains(&object.reference));
        for other in Kind::ALL.iter().filter(|other| **other != kind && subject.has(slice::from_ref(other))) {
            assert_eq!(subject.listed(*other, of).await, [""; 0], "found as {other}");
            assert_eq!(subject.read(*other, &object.reference).await, None, "found as {other}");
        }
        subject.remove(kind, &object.reference).await;
    }
}

pub async fn deleted_object_is_not_found_and_repeated_deletion_succeeds(subject: &Subject) {
    for order in subject.one_of_each() {
        let (kind, reference) = (order.spec.kind(), subject.make(&order).await.reference);
        subject.remove(kind, &reference).await;
        subject.retry(async || subject.driver.delete(kind, &reference).await).await;
        assert_eq!(subject.read(kind, &reference).await, None);
        assert_eq!(subject.listed(kind, OwnerFilter::Resource(order.tags.resource)).await, [""; 0]);
        let error = subject.expect_error(async || subject.driver.update(&reference, &order).await).await;
        assert_eq!(error.kind, DriverErrorKind::NotFound, "{error}");
        if kind.has_power() {
            for action in [Action::Power(Power::On), Action::Power(Power::Off), Action::Reboot] {
                let error = subject.expect_error(async || subject.driver.action(kind, &reference, action).await).await;
                assert_eq!(error.kind, DriverErrorKind::NotFound, "{error}");
            }
        }
    }
}

pub async fn unknown_references_are_not_found(subject: &Subject) {
    // References that a client may send in an import.
    for reference in
        ["no-such", "i-0", "vpc-00000000000000000", "../../etc/passwd", "a b&Action=x", "ä", &"x".repeat(300)]
    {
        for order in subject.one_of_each() {
            let kind = order.spec.kind();
            assert_eq!(subject.read(kind, reference).await, None, "{kind} {reference}");
            subject.retry(async || subject.driver.delete(kind, reference).await).await;
            let error = subject.expect_error(async || subject.driver.update(reference, &order).await).await;
            assert_eq!(error.kind, DriverErrorKind::NotFound, "{error}");
        }
    }
}

pub async fn all_objects_of_a_repeated_creation_are_listed(subject: &Subject) {
    for order in subject.one_of_each() {
        let kind = order.spec.kind();
        let mut created = BTreeSet::new();
        for _ in 0..2 {
            created.insert(subject.retry(async || subject.driver.create(&order).await).await.reference);
        }
        if subject.supports_client_tokens {
            assert_eq!(created.len(), 1, "operation ID not used as client token");
        }
        let created = Vec::from_iter(created);
        assert_eq!(subject.listed(kind, OwnerFilter::Resource(order.tags.resource)).await, created);
        for reference in &created {
            subject.remove(kind, reference).await;
        }
        assert_eq!(subject.listed(kind, OwnerFilter::Resource(order.tags.resource)).await, [""; 0]);
    }
}

pub async fn volume_can_grow_but_not_shrink(subject: &Subject) {
    if !subject.can_update(Kind::Volume, "size_gib") {
        return;
    }
    let order = subject.volume(1);
    let reference = subject.make(&order).await.reference;
    let larger = Order { tags: order.tags, ..subject.volume(3) };
    subject.converge(&reference, &larger, None).await;
    subject.retry(async || subject.driver.update(&reference, &larger).await).await;
    subject.converge(&reference, &larger, None).await;
    let error = subject.expect_error(async || subject.driver.update(&reference, &order).await).await;
    assert_eq!(error.kind, DriverErrorKind::Invalid, "{error}");
    subject.converge(&reference, &larger, None).await;
    subject.remove(Kind::Volume, &reference).await;
}

pub async fn update_tags_an_object_created_elsewhere(subject: &Subject) {
    if !subject.has(&[Kind::Volume]) || !subject.capabilities().import {
        return;
    }
    let reference = (subject.create_untagged_volume)().await;
    assert!(subject.listed(Kind::Volume, OwnerFilter::Untagged).await.contains(&reference));
    assert_eq!(subject.listed(Kind::Volume, OwnerFilter::All).await, [""; 0]);
    let object = subject.read(Kind::Volume, &reference).await.unwrap();
    assert_eq!(object.tags, None);

    let first = Order { spec: object.spec, ..subject.volume(1) };
    let second = Order { tags: Tags { resource: ResourceId::new(), ..first.tags }, ..first.clone() };
    for order in [&first, &first, &second] {
        subject.retry(async || subject.driver.update(&reference, order).await).await;
        let object = subject.converge(&reference, order, None).await;
        assert_eq!(object.tags, Some(order.tags));
        assert_eq!(
            subject.listed(Kind::Volume, OwnerFilter::Resource(order.tags.resource)).await,
            slice::from_ref(&reference)
        );
    }
    assert_eq!(subject.listed(Kind::Volume, OwnerFilter::Resource(first.tags.resource)).await, [""; 0]);
    assert!(!subject.listed(Kind::Volume, OwnerFilter::Untagged).await.contains(&reference));
    subject.remove(Kind::Volume, &reference).await;
}

pub async fn power_actions_are_idempotent_and_repeatable(subject: &Subject) {
    let Some(can) = subject.capabilities().of(Kind::Instance) else { return };
    let order = subject.instance(None, &[]);
    let reference = subject.make(&order).await.reference;
    let act = async |action| {
        subject.retry(async || subject.driver.action(Kind::Instance, &reference, action).await).await;
    };
    if can.actions.contains(&ActionType::Stop) && can.actions.contains(&ActionType::Start) {
        for power in [Power::On, Power::Off, Power::On] {
            for _ in 0..2 {
                act(Action::Power(power)).await;
                let object = subject.converge(&reference, &order, Some(power)).await;
                assert_eq!(object.power, Some(power));
            }
        }
    }
    if can.actions.contains(&ActionType::Reboot) {
        act(Action::Reboot).await;
        let object = subject.converge(&reference, &order, Some(Power::On)).await;
        assert_eq!(object.power, Some(Power::On));
    }
    subject.remove(Kind::Instance, &reference).await;
}

pub async fn volumes_are_attached_detached_and_outlive_their_instance(subject: &Subject) {
    if !subject.has(&[Kind::Volume, Kind::Instance]) {
        return;
    }
    let one = subject.make(&subject.volume(1)).await.reference;
    let other = subject.make(&subject.volume(2)).await.reference;
    // Volumes in the creation are attached from the start, and no other volumes are attached.
    let order = subject.instance(None, &[&one]);
    let reference = subject.make(&order).await.reference;
    if subject.can_update(Kind::Instance, "volumes") {
        for volumes in [&[&*one, &*other][..], &[&*other], &[], &[&*one]] {
            let order = with_volumes(&order, volumes);
            for _ in 0..2 {
                subject.retry(async || subject.driver.update(&reference, &order).await).await;
                let object = subject.converge(&reference, &order, Some(Power::On)).await;
                assert_eq!(order.spec.difference(&object.spec), serde_json::Map::new());
            }
        }
    }
    subject.remove(Kind::Instance, &reference).await;
    for volume in [one, other] {
        assert!(subject.read(Kind::Volume, &volume).await.is_some(), "volume deleted with its instance");
        subject.remove(Kind::Volume, &volume).await;
    }
}

pub async fn objects_in_use_are_not_deleted(subject: &Subject) {
    if !subject.has(&[Kind::Network, Kind::Volume, Kind::Instance]) {
        return;
    }
    let network = subject.make(&subject.network(1)).await.reference;
    let volume = subject.make(&subject.volume(1)).await.reference;
    let instance = subject.make(&subject.instance(Some(&network), &[&volume])).await.reference;
    for (kind, reference) in [(Kind::Network, &network), (Kind::Volume, &volume)] {
        let error = subject.expect_error(async || subject.driver.delete(kind, reference).await).await;
        assert_eq!(error.kind, DriverErrorKind::Conflict, "{error}");
        assert!(subject.read(kind, reference).await.is_some(), "{reference} was deleted");
    }
    subject.remove(Kind::Instance, &instance).await;
    subject.remove(Kind::Volume, &volume).await;
    subject.remove(Kind::Network, &network).await;
}

pub async fn instance_can_be_resized(subject: &Subject) {
    if !subject.can_update(Kind::Instance, "size") {
        return;
    }
    let order = subject.instance(None, &[]);
    let reference = subject.make(&order).await.reference;
    let mut larger = Order { operation: OperationId::new(), ..order };
    if let Spec::Instance(spec) = &mut larger.spec {
        spec.size.clone_from(&subject.sizes[1]);
    }
    for power in [Power::On, Power::Off] {
        let object = subject.converge(&reference, &larger, Some(power)).await;
        assert_eq!(larger.spec.difference(&object.spec), serde_json::Map::new());
    }
    subject.remove(Kind::Instance, &reference).await;
}

pub async fn pagination_lists_each_object_once(subject: &Subject) {
    if !subject.has(&[Kind::Volume]) {
        return;
    }
    let mut created = Vec::new();
    for _ in 0..subject.many {
        let order = subject.volume(1);
        created.push(subject.retry(async || subject.driver.create(&order).await).await.reference);
    }
    created.sort_unstable();
    assert_eq!(subject.listed(Kind::Volume, OwnerFilter::All).await, created);
    for reference in &created {
        subject.retry(async || subject.driver.delete(Kind::Volume, reference).await).await;
    }
    for reference in &created {
        subject.remove(Kind::Volume, reference).await;
    }
    assert_eq!(subject.listed(Kind::Volume, OwnerFilter::All).await, [""; 0]);
}

pub async fn each_deployment_and_provider_lists_only_its_own_objects(subject: &Subject) {
    for mut order in subject.one_of_each() {
        let kind = order.spec.kind();
        order.tags.deployment = Uuid::new_v4();
        let reference = subject.make(&order).await.reference;
        let (resource, theirs) = (OwnerFilter::Resource(order.tags.resource), order.tags.deployment);
        assert_eq!(subject.listed(kind, OwnerFilter::All).await, [""; 0], "object of another deployment listed");
        assert_eq!(subject.listed(kind, resource).await, [""; 0], "object of another deployment listed");
        assert!(
            !subject.listed(kind, OwnerFilter::Untagged).await.contains(&reference),
            "owned object listed as unowned"
        );
        assert_eq!(subject.list_at(&*subject.driver, kind, theirs, OwnerFilter::All).await.len(), 1);
        for of in [OwnerFilter::All, resource] {
            let seen = subject.list_at(&*subject.other_driver, kind, theirs, of).await;
            assert!(seen.is_empty(), "objects of another provider listed: {seen:?}");
        }
        let seen = subject.list_at(&*subject.other_driver, kind, theirs, OwnerFilter::Untagged).await;
        assert!(!seen.iter().any(|object| object.reference == reference), "owned object listed as unowned");
        subject.remove(kind, &reference).await;
    }
}

pub async fn listed_sizes_and_images_are_valid_and_others_are_refused(subject: &Subject) {
    let Some(can) = subject.capabilities().of(Kind::Instance) else { return };
    let spec = |size: &str, image: &str| {
        Spec::Instance(InstanceSpec { size: size.into(), image: image.into(), network: None, volumes: Vec::new() })
    };
    let error = |spec| subject.driver.validate(&spec).into_iter().map(|no| no.member).collect::<Vec<_>>();
    for size in can.sizes.iter().chain(&subject.sizes) {
        assert_eq!(error(spec(size, &subject.image)), [""; 0]);
    }
    for image in can.images.iter().chain([&subject.image]) {
        assert_eq!(error(spec(&subject.sizes[0], image)), [""; 0]);
    }
    if !can.native_terms {
        assert_eq!(error(spec("no-size", "no-image")), ["size", "image"]);
    }
}

pub async fn instance_is_not_created_in_a_missing_network(subject: &Subject) {
    if !subject.has(&[Kind::Network, Kind::Instance]) {
        return;
    }
    let network = subject.make(&subject.network(2)).await.reference;
    subject.remove(Kind::Network, &network).await;
    let order = subject.instance(Some(&network), &[]);
    let error = subject.expect_error(async || subject.driver.create(&order).await).await;
    assert!(matches!(error.kind, DriverErrorKind::NotFound | DriverErrorKind::Invalid), "{error}");
    assert_eq!(subject.listed(Kind::Instance, OwnerFilter::Resource(order.tags.resource)).await, [""; 0]);
}
