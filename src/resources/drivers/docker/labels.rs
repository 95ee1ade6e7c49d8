//! Labels and names of objects on a Docker engine. Docker sets labels only on creation.

use std::collections::HashMap;

use crate::resources::{
    drivers::driver::{ListQuery, Order, OwnerFilter, Tags},
    kinds::{Kind, spec::Spec},
};

const DEPLOYMENT: &str = "dev.cloudapi.deployment";
const PROVIDER: &str = "dev.cloudapi.provider";
const RESOURCE: &str = "dev.cloudapi.resource";
const NAME: &str = "dev.cloudapi.name";
const SPEC: &str = "dev.cloudapi.spec";
const LABEL: &str = "dev.cloudapi.label.";

/// Labels of an object.
pub type Labels = HashMap<String, String>;

/// Name of an object on the engine. Names are unique there, so a second creation conflicts with the first.
pub fn name(tags: &Tags) -> String {
    format!("cloudapi-{}", tags.resource)
}

/// Labels of a new object.
pub fn for_object(provider: &str, order: &Order) -> Labels {
    let ours = [
        (DEPLOYMENT, order.tags.deployment.to_string()),
        (PROVIDER, provider.to_owned()),
        (RESOURCE, order.tags.resource.to_string()),
        (NAME, order.name.clone()),
        // Docker stores neither the requested image name nor the size of a volume.
        (SPEC, order.spec.to_json().to_string()),
    ];
    let clients = order.labels.iter().map(|(key, value)| (format!("{LABEL}{key}"), value.clone()));
    ours.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(clients).collect()
}

/// Owner of an object.
pub fn tags(labels: &Labels) -> Option<Tags> {
    let deployment = labels.get(DEPLOYMENT)?.parse().ok()?;
    let resource = labels.get(RESOURCE)?.parse().ok()?;
    Some(Tags { deployment, resource })
}

/// Whether a provider of this name created the object, for any resource.
pub fn is_owned_by_provider(provider: &str, labels: &Labels) -> bool {
    labels.get(PROVIDER).is_some_and(|name| name == provider)
}

/// Whether a provider of this name created the object for this resource.
pub fn is_owned_by(provider: &str, of: &Tags, labels: &Labels) -> bool {
    is_owned_by_provider(provider, labels) && tags(labels).as_ref() == Some(of)
}

/// Spec that was requested on creation.
pub fn requested_spec(kind: Kind, labels: &Labels) -> Option<Spec<String>> {
    Spec::from_json(kind, serde_json::from_str(labels.get(SPEC)?).ok()?).ok()
}

/// Label filters for the engine. They cannot select objects without a label; [`matches_query`] does that.
pub fn filters(provider: &str, query: &ListQuery) -> HashMap<String, Vec<String>> {
    let deployment = || format!("{DEPLOYMENT}={}", query.deployment);
    let provider = || format!("{PROVIDER}={provider}");
    let labels = match query.owner {
        OwnerFilter::All => vec![deployment(), provider()],
        OwnerFilter::Resource(resource) => vec![deployment(), provider(), format!("{RESOURCE}={resource}")],
        OwnerFilter::Untagged => return HashMap::new(),
    };
    HashMap::from([("label".to_owned(), labels)])
}

/// Whether an object that [`filters`] selected matches the query.
pub fn matches_query(query: &ListQuery, labels: &Labels) -> bool {
    query.owner != OwnerFilter::Untagged || !labels.contains_key(DEPLOYMENT)
}
