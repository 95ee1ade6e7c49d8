//! What an object of an engine carries of us. Docker sets labels once and for all when an object is made.

use std::collections::HashMap;

use crate::resources::{
    driver::{ListQuery, Order, Owned, Tags},
    kind::Kind,
    spec::Spec,
};

const DEPLOYMENT: &str = "dev.cloudapi.deployment";
const PROVIDER: &str = "dev.cloudapi.provider";
const RESOURCE: &str = "dev.cloudapi.resource";
const NAME: &str = "dev.cloudapi.name";
const SPEC: &str = "dev.cloudapi.spec";
const LABEL: &str = "dev.cloudapi.label.";

/// An object's labels.
pub type Labels = HashMap<String, String>;

/// What an object is called on its engine, which has no two of one name: so a resource's second creation meets the first.
pub fn name(tags: &Tags) -> String {
    format!("cloudapi-{}", tags.resource)
}

/// What a new object carries.
pub fn of(provider: &str, order: &Order) -> Labels {
    let ours = [
        (DEPLOYMENT, order.tags.deployment.to_string()),
        (PROVIDER, provider.to_owned()),
        (RESOURCE, order.tags.resource.to_string()),
        (NAME, order.name.clone()),
        // Docker knows neither the word for an image nor how large a volume should be.
        (SPEC, order.spec.to_json().to_string()),
    ];
    let clients = order.labels.iter().map(|(key, value)| (format!("{LABEL}{key}"), value.clone()));
    ours.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(clients).collect()
}

/// Whose an object is.
pub fn tags(labels: &Labels) -> Option<Tags> {
    let deployment = labels.get(DEPLOYMENT)?.parse().ok()?;
    let resource = labels.get(RESOURCE)?.parse().ok()?;
    Some(Tags { deployment, resource })
}

/// Whether a provider of this name has made it, for whomever.
pub fn is_of(provider: &str, labels: &Labels) -> bool {
    labels.get(PROVIDER).is_some_and(|name| name == provider)
}

/// Whether a provider of this name has made it for that resource.
pub fn is_for(provider: &str, of: &Tags, labels: &Labels) -> bool {
    is_of(provider, labels) && tags(labels).as_ref() == Some(of)
}

/// What was asked for when it was made.
pub fn asked(kind: Kind, labels: &Labels) -> Option<Spec<String>> {
    Spec::from_json(kind, serde_json::from_str(labels.get(SPEC)?).ok()?).ok()
}

/// What an engine has to look for. It cannot look for what has no label: those are left out by [`is_among`].
pub fn filters(provider: &str, query: &ListQuery) -> HashMap<String, Vec<String>> {
    let deployment = || format!("{DEPLOYMENT}={}", query.deployment);
    let provider = || format!("{PROVIDER}={provider}");
    let labels = match query.of {
        Owned::All => vec![deployment(), provider()],
        Owned::Of(resource) => vec![deployment(), provider(), format!("{RESOURCE}={resource}")],
        Owned::Nobody => return HashMap::new(),
    };
    HashMap::from([("label".to_owned(), labels)])
}

/// Whether an object that was found by [`filters`] was asked for.
pub fn is_among(query: &ListQuery, labels: &Labels) -> bool {
    query.of != Owned::Nobody || !labels.contains_key(DEPLOYMENT)
}
