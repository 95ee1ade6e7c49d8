//! Tags of each object: its owner, its name, and the requested names of its size and image.

use std::collections::BTreeMap;

use super::{Aws, answers::TagSet, form::Form};
use crate::resources::{
    driver::{ListQuery, Order, Owned, Result, Tags},
    spec::Spec,
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
pub fn whose(tags: &TagSet) -> Option<Tags> {
    let deployment = tags.get(DEPLOYMENT)?.parse().ok()?;
    let resource = tags.get(RESOURCE)?.parse().ok()?;
    Some(Tags { deployment, resource })
}

/// Whether an object with these tags matches `query`. EC2 filters most objects, but it cannot filter by the absence of
/// a tag.
pub fn is_asked_for(tags: &TagSet, query: &ListQuery) -> bool {
    query.of != Owned::Nobody || tags.get(DEPLOYMENT).is_none()
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
    pub(super) fn sift(&self, form: Form, query: &ListQuery) -> Form {
        let whole = match query.of {
            Owned::Nobody => return form,
            Owned::All => form,
            Owned::Of(resource) => form.filtered(&format!("tag:{RESOURCE}"), [resource]),
        };
        whole
            .filtered(&format!("tag:{DEPLOYMENT}"), [query.deployment])
            .filtered(&format!("tag:{PROVIDER}"), [&self.name])
    }

    /// Updates the tags of an existing object, and removes labels that no longer exist. Other parties' tags stay
    /// unchanged.
    pub(super) async fn retag(&self, id: &str, has: &TagSet, shall_have: &BTreeMap<String, String>) -> Result<()> {
        let missing: Vec<_> = shall_have.iter().filter(|(key, value)| has.0.get(*key) != Some(value)).collect();
        if !missing.is_empty() {
            self.ec2.tell(Form::new("CreateTags").with("ResourceId.1", id).tags("Tag", missing)).await?;
        }
        let gone = has.0.keys().filter(|key| key.starts_with(LABEL) && !shall_have.contains_key(*key));
        let mut form = Form::new("DeleteTags").with("ResourceId.1", id);
        let mut any = false;
        for (key, at) in gone.zip(1..) {
            form = form.with(format!("Tag.{at}.Key"), key);
            any = true;
        }
        if any { self.ec2.tell(form).await } else { Ok(()) }
    }
}
