//! What clients ask for: bodies and query strings, and what they are answered.

mod action;

use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use action::ResourceAction;

use super::{
    kind::Kind,
    lifecycle::{OperationStatus, OperationType, Phase},
    model::{Labels, OperationView, Reconcile, ResourceView},
    spec::{InstanceSpec, NetworkSpec, VolumeSpec},
};
use crate::base::{
    error::{Item, Place},
    id::{ProjectId, RequestId, ResourceId},
    page::ListQuery,
    patch::{Patch, Replace},
    schema::{Rules, input, patch},
    text::NO_CONTROL_CHARACTERS,
};

/// What a name looks like: as a DNS label, because providers make host names of it.
const NAME: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
const NAME_FORM: &str = "a name of lower-case letters, digits and inner hyphens";
const LABELS_FORM: &str = "a list of labels, each key=value or key, with commas between";
/// What a provider's name looks like.
const PROVIDER: &str = "^[a-z][a-z0-9-]*$";
const PROVIDER_FORM: &str = "the name of a provider, of lower-case letters, digits and hyphens";
/// What labels to filter by look like: `key=value` or `key`, with commas between.
const LABELS: &str = "^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?(=([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?)?(,[a-z0-9]([a-z0-9._/-]*[a-z0-9])?(=([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?)?)*$";

/// What a new resource shall be.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct NewResource(pub NewResourceMembers);

/// The members of a [`NewResource`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewResourceMembers {
    /// The project it belongs to; needed with a session.
    pub project_id: Option<ProjectId>,
    /// What it is.
    pub kind: Kind,
    /// The provider that it shall be at; may be left out where there is only one.
    #[schemars(length(min = 1, max = 63), example = &"sim")]
    pub provider: Option<String>,
    /// What people call it: lower-case letters, digits and hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME), extend("x-form" = NAME_FORM), example = &"web")]
    pub name: String,
    /// Your own tags on it; none when left out.
    pub labels: Option<Labels>,
    /// What is asked for, as the kind has it: `GET /v1/schemas/{kind}`.
    #[schemars(extend("additionalProperties" = true))]
    pub spec: Map<String, Value>,
    /// Whether it must not be deleted; false when left out.
    pub protection: Option<bool>,
    /// What is done when something else has changed it; `observe` when left out.
    pub reconcile: Option<Reconcile>,
    /// After how many seconds it is deleted by itself; never when left out.
    #[schemars(range(min = 60, max = 2_592_000), example = 3600)]
    pub ttl_seconds: Option<u32>,
}

impl JsonSchema for NewResource {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NewResource".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = NewResourceMembers::json_schema(generator);
        let specs: Vec<Value> = Kind::ALL
            .iter()
            .map(|&kind| {
                let spec = spec_schema(kind, generator);
                json!({
                    "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
                    "then": { "properties": { "spec": spec } },
                })
            })
            .collect();
        schema.insert("description".into(), "What a new resource shall be.".into());
        schema.insert("allOf".into(), specs.into());
        schema
    }
}

/// The schema of a kind's spec.
pub fn spec_schema(kind: Kind, generator: &mut SchemaGenerator) -> Schema {
    match kind {
        Kind::Network => generator.subschema_for::<NetworkSpec>(),
        Kind::Volume => generator.subschema_for::<VolumeSpec>(),
        Kind::Instance => generator.subschema_for::<InstanceSpec>(),
    }
}

/// What is wrong with `spec` for a `kind`, where the kind is not said in the same body.
pub fn spec_faults(kind: Kind, spec: &Value) -> Vec<Item> {
    static RULES: [LazyLock<Rules>; 3] = [
        LazyLock::new(Rules::of::<NetworkSpec>),
        LazyLock::new(Rules::of::<VolumeSpec>),
        LazyLock::new(Rules::of::<InstanceSpec>),
    ];
    let [network, volume, instance] = &RULES;
    let rules = match kind {
        Kind::Network => network,
        Kind::Volume => volume,
        Kind::Instance => instance,
    };
    let mut faults = rules.faults(spec);
    for fault in &mut faults {
        if let Place::Body(pointer) = &mut fault.place {
            pointer.insert_str(0, "/spec");
        }
    }
    faults
}

/// What changes; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcePatch {
    /// What people call it: lower-case letters, digits and hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME), extend("x-form" = NAME_FORM), example = &"web")]
    pub name: Replace<String>,
    /// Your own tags on it, all of them; null removes them.
    pub labels: Patch<Labels>,
    /// What is asked for: members that are given replace those that there are, others stay. Null clears a member that may
    /// be left out. Which can be changed, the provider's capabilities say.
    #[schemars(extend("additionalProperties" = true))]
    pub spec: Replace<Map<String, Value>>,
    /// Whether it must not be deleted.
    pub protection: Replace<bool>,
    /// What is done when something else has changed it.
    pub reconcile: Replace<Reconcile>,
    /// After how many seconds from now it is deleted by itself; null or 0 for never.
    #[schemars(range(max = 2_592_000), extend("anyOf" = [{ "minimum": 60 }, { "const": 0 }, { "type": "null" }]), example = 3600)]
    pub ttl_seconds: Patch<u32>,
}

/// What shall become a resource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImport {
    /// The project it shall belong to; needed with a session.
    pub project_id: Option<ProjectId>,
    /// What it is.
    pub kind: Kind,
    /// The provider that it is at.
    #[schemars(length(min = 1, max = 63), example = &"sim")]
    pub provider: String,
    /// The provider's own name for it.
    #[schemars(length(min = 1, max = 255), regex(pattern = NO_CONTROL_CHARACTERS), example = &"vol-0a1b2c3d")]
    pub provider_ref: String,
    /// What people call it: lower-case letters, digits and hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME), extend("x-form" = NAME_FORM), example = &"web")]
    pub name: String,
    /// Your own tags on it; none when left out.
    pub labels: Option<Labels>,
    /// Whether it must not be deleted; false when left out.
    pub protection: Option<bool>,
    /// What is done when something else has changed it; `observe` when left out.
    pub reconcile: Option<Reconcile>,
}

/// Whether to apply a change or only to plan it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DryRunQuery {
    /// `true` to validate the request and return the plan without changing anything.
    #[schemars(extend("default" = false))]
    pub dry_run: Option<bool>,
}

impl DryRunQuery {
    /// Whether the client asks for a plan only.
    pub fn is_wanted(&self) -> bool {
        self.dry_run == Some(true)
    }
}

/// The filter of the list of resources.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ResourceFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// Only resources of this kind.
    pub kind: Option<Kind>,
    /// Only resources at this provider.
    #[schemars(length(min = 1, max = 63), regex(pattern = PROVIDER), extend("x-form" = PROVIDER_FORM), example = &"sim")]
    pub provider: Option<String>,
    /// Only resources that stand so; all but `deleted` when left out.
    pub phase: Option<Phase>,
    /// Only resources that have all of these labels: `key=value`, or `key` for any value, with commas between.
    #[schemars(length(max = 1024), regex(pattern = LABELS), extend("x-form" = LABELS_FORM), example = &"env=ci-4711,team")]
    pub label: Option<String>,
}

impl ResourceFilter {
    /// The labels to have, and the keys of which any value will do.
    pub fn labels(&self) -> (Map<String, Value>, Vec<String>) {
        let (mut pairs, mut keys) = (Map::new(), Vec::new());
        for label in self.label.iter().flat_map(|labels| labels.split(',')) {
            match label.split_once('=') {
                Some((key, value)) => drop(pairs.insert(key.to_owned(), value.into())),
                None => keys.push(label.to_owned()),
            }
        }
        (pairs, keys)
    }
}

/// The filter of the list of operations.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OperationFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// Only operations on this resource.
    pub resource_id: Option<ResourceId>,
    /// Only operations that stand so.
    pub status: Option<OperationStatus>,
    /// Only operations of this type.
    #[serde(rename = "type")]
    pub kind: Option<OperationType>,
}

/// How to get an operation.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OperationWait {
    /// How many seconds to wait at most for the operation to be over; 0 when left out.
    #[schemars(range(max = 60), extend("default" = 0))]
    pub wait: Option<u8>,
}

patch!(ResourcePatch);
input!(
    NewResource,
    ResourceAction,
    NewImport,
    DryRunQuery,
    OperationWait,
    ListQuery<ResourceFilter>,
    ListQuery<OperationFilter>
);

/// What a write answers: what will be done, and how the resource stands until then.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AcceptedOperation {
    /// The resource, as it stands from now on.
    pub resource: ResourceView,
    /// What is done to it; `Location` says where to see what came of it.
    pub operation: OperationView,
    /// The request's id.
    pub request_id: RequestId,
}

/// Response to a dry run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DryRun {
    /// What the request would do.
    pub plan: Plan,
    /// The request's id.
    pub request_id: RequestId,
}

/// What a request would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plan {
    /// Type of the operation.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// Whether the operation needs a call to the provider. If false, it would complete immediately.
    pub requires_provider: bool,
    /// The resource after the change. The id of a new resource is a placeholder.
    pub resource: ResourceView,
    /// Previous and new value of each changed field. Empty for a new resource.
    #[schemars(schema_with = "changes")]
    pub changes: Map<String, Value>,
}

fn changes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Previous and new value of each changed field. Empty for a new resource.",
        "additionalProperties": { "type": "array", "items": {}, "minItems": 2, "maxItems": 2 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::schema::Input;

    #[test]
    fn a_spec_is_held_to_its_kind_at_its_own_place() {
        let faults = |body: Value| {
            let told = NewResource::rules().faults(&body).into_iter();
            told.map(|item| match item.place {
                Place::Body(pointer) => format!("{pointer} {} {}", item.code, item.detail),
                Place::Parameter(name) => name,
            })
            .collect::<Vec<_>>()
        };
        let network = |spec: Value| json!({ "kind": "network.network", "name": "n", "spec": spec });
        assert!(faults(network(json!({ "cidr": "10.0.0.0/16" }))).is_empty());
        assert_eq!(faults(network(json!({})))[0], "/spec/cidr required 'cidr' is required; add it");
        let unknown = &faults(network(json!({ "cidr": "10.0.0.0/16", "cird": 1 })))[0];
        assert!(
            unknown.starts_with("/spec/cird unknown_field") && unknown.contains("did you mean 'cidr'?"),
            "{unknown}"
        );
        let volume = json!({ "kind": "storage.volume", "name": "N", "spec": { "size_gib": 0 }, "ttl_seconds": 59 });
        let told = faults(volume);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(faults(json!({ "kind": "storage.volme", "name": "n", "spec": {} }))[0].contains("storage.volume"));
        assert_eq!(spec_faults(Kind::Volume, &json!({ "size_gib": "1" })).len(), 1);
    }

    #[test]
    fn a_life_is_a_minute_at_least_or_has_no_end() {
        for (seconds, fits) in [(0, true), (1, false), (59, false), (60, true), (2_592_000, true), (2_592_001, false)] {
            let faults = ResourcePatch::rules().faults(&json!({ "ttl_seconds": seconds }));
            assert_eq!(faults.is_empty(), fits, "{seconds}: {faults:?}");
        }
    }

    #[test]
    fn labels_to_filter_by_are_pairs_and_keys() {
        let filter = |label: &str| ResourceFilter {
            project_id: None,
            kind: None,
            provider: None,
            phase: None,
            label: Some(label.into()),
        };
        let (pairs, keys) = filter("env=ci,team,empty=").labels();
        assert_eq!((Value::Object(pairs), keys), (json!({ "env": "ci", "empty": "" }), vec!["team".to_owned()]));
        let is_label = |text: &str| ListQuery::<ResourceFilter>::rules().faults(&json!({ "label": text })).is_empty();
        for text in ["a", "a=b", "a=", "a/b.c-d=X.y", "a=b,c"] {
            assert!(is_label(text), "{text}");
        }
        for text in ["", "=", "A=b", "a=b,", ",a", "a==b", "a=b c", "a=\u{e9}"] {
            assert!(!is_label(text), "{text}");
        }
    }
}
