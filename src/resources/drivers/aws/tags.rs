//! Tags of each object: its owner, its name, and the requested names of its size and image.

use std::collections::BTreeMap;

use super::{Aws, client::form::Form, responses::TagSet};
use crate::resources::{
    drivers::driver::{ListQuery, Order, OwnerFilter, Result, Tags},
    kinds::spec::Spec,
};

const DEPLOYMENT: &str = "cloudapi:deployment";
const PROVIDER: &str = "cloudapi:provider";
const RESOURCE: &str = "cloudapi:resource";
/// Requested size name. It is stored because several names may stand for one type, and the configuration may change.
pub const SIZE: &str = "cloudapi:size";
/// Requested image name.
pub const IMAGE: &str = "cloudapi:image";
const NAME: &str = "Name";
const LABEL: &str = "label:";

/// Owner of an object.
pub fn owner(tags: &TagSet) -> Option<Tags> {
    let deployment = tags.get(DEPLOYMENT)?.parse().ok()?;
    let resource = tags.get(RESOURCE)?.parse().ok()?;
    Some(Tags { deployment, resource })
}

/// Whether an object with these tags matches `query`. EC2 filters most objects, but it cannot filter by the absence of
/// a tag.
pub fn matches_query(tags: &TagSet, query: &ListQuery) -> bool {
    query.owner != OwnerFilter::Untagged || tags.get(DEPLOYMENT).is_none()
}

/// Whether a key is one of this server's own tags, of any deployment.
pub fn is_ours(tags: &TagSet) -> bool {
    tags.get(DEPLOYMENT).is_some()
}

impl Aws {
    /// Tags of the object of an order.
    pub(super) fn tags(&self, order: &Order) -> BTreeMap<String, String> {
        let labels = order.labels.iter().map(|(key, value)| (format!("{LABEL}{key}"), value.clone()));
        let mut tags: BTreeMap<_, _> = labels.collect();
        let own = [
            (DEPLOYMENT, order.tags.deployment.to_string()),
            (PROVIDER, self.name.clone()),
            (RESOURCE, order.tags.resource.to_string()),
            (NAME, order.name.clone()),
        ];
        tags.extend(own.map(|(key, value)| (key.to_owned(), value)));
        if let Spec::Instance(spec) = &order.spec {
            tags.insert(SIZE.into(), spec.size.clone());
            tags.insert(IMAGE.into(), spec.image.clone());
        }
        tags
    }

    /// Adds the filters for `query`.
    pub(super) fn with_owner_filter(&self, form: Form, query: &ListQuery) -> Form {
        let owned = match query.owner {
            OwnerFilter::Untagged => return form,
            OwnerFilter::All => form,
            OwnerFilter::Resource(resource) => form.with_filter(&format!("tag:{RESOURCE}"), [resource]),
        };
        owned
            .with_filter(&format!("tag:{DEPLOYMENT}"), [query.deployment])
            .with_filter(&format!("tag:{PROVIDER}"), [&self.name])
    }

    /// Updates the tags of an existing object, and removes labels that no longer exist. Other parties' tags stay
    /// unchanged.
    pub(super) async fn retag(&self, id: &str, current: &TagSet, desired: &BTreeMap<String, String>) -> Result<()> {
        let missing: Vec<_> = desired.iter().filter(|(key, value)| current.0.get(*key) != Some(value)).collect();
        if !missing.is_empty() {
            self.ec2.send(Form::new("CreateTags").with("ResourceId.1", id).with_tags("Tag", missing)).await?;
        }
        let gone = current.0.keys().filter(|key| key.starts_with(LABEL) && !desired.contains_key(*key));
        let mut form = Form::new("DeleteTags").with("ResourceId.1", id);
        let mut any = false;
        for (key, at) in gone.zip(1..) {
            form = form.with(format!("Tag.{at}.Key"), key);
            any = true;
        }
        if any { self.ec2.send(form).await } else { Ok(()) }
    }
}
