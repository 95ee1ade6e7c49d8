//! Requests and responses: bodies and query strings.

mod action;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use action::ResourceAction;

use super::model::{Labels, OperationView, Reconcile, ResourceView};
use crate::{
    base::{
        error::{Item, ItemLocation},
        id::{ProjectId, RequestId, ResourceId},
        input::{
            page::ListQuery,
            patch::{Patch, Replace},
            schema::{input, patch},
            text::NO_CONTROL_CHARACTERS,
        },
    },
    resources::{
        engine::lifecycle::{OperationStatus, OperationType, Phase},
        kinds::Kind,
    },
};

/// Pattern of a name: a DNS label, because providers derive host names from it.
const NAME: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
const NAME_FORM: &str = "a name of lowercase letters, digits and inner hyphens";
const LABELS_FORM: &str = "a comma-separated list of labels, each key=value or key";
/// Pattern of a provider's name.
const PROVIDER: &str = "^[a-z][a-z0-9-]*$";
const PROVIDER_FORM: &str = "the name of a provider, of lowercase letters, digits and hyphens";
/// Pattern of a label filter: a comma-separated list of `key=value` or `key`.
const LABELS: &str = "^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?(=([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?)?(,[a-z0-9]([a-z0-9._/-]*[a-z0-9])?(=([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?)?)*$";

/// Resource to create.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct NewResource(pub NewResourceMembers);

/// Members of a [`NewResource`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewResourceMembers {
    /// Id of the project that the resource belongs to. Required with a session.
    pub project_id: Option<ProjectId>,
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the provider. Required if there are several.
    #[schemars(length(min = 1, max = 63), example = &"sim")]
    pub provider: Option<String>,
    /// Human-readable name: 1 to 63 lowercase letters, digits and inner hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME), extend("x-form" = NAME_FORM), example = &"web")]
    pub name: String,
    /// Client-defined labels. Default: none.
    pub labels: Option<Labels>,
    /// Desired state. Its schema depends on the kind: `GET /v1/schemas/{kind}`.
    #[schemars(extend("additionalProperties" = true))]
    pub spec: Map<String, Value>,
    /// Whether the resource is protected from deletion. Default: false.
    pub protection: Option<bool>,
    /// Reaction to changes made outside this server. Default: `observe`.
    pub reconcile: Option<Reconcile>,
    /// Time to live in seconds, from 60 to 2592000, after which the resource is deleted. Default: unlimited.
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
                let spec = kind.spec_schema(generator);
                json!({
                    "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
                    "then": { "properties": { "spec": spec } },
                })
            })
            .collect();
        schema.insert("description".into(), "Resource to create.".into());
        schema.insert("allOf".into(), specs.into());
        schema
    }
}

/// Validates `spec` against the schema of `kind`, for bodies that do not contain the kind.
pub fn spec_faults(kind: Kind, spec: &Value) -> Vec<Item> {
    let mut faults = kind.spec_faults(spec);
    for fault in &mut faults {
        if let ItemLocation::Body(pointer) = &mut fault.location {
            pointer.insert_str(0, "/spec");
        }
    }
    faults
}

/// Changes to a resource. Omitted members stay unchanged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcePatch {
    /// Human-readable name: 1 to 63 lowercase letters, digits and inner hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME), extend("x-form" = NAME_FORM), example = &"web")]
    pub name: Replace<String>,
    /// Client-defined labels. Replaces all labels; null removes them.
    pub labels: Patch<Labels>,
    /// Desired state. Only the spec members in the request are replaced; null clears an optional member. The provider's
    /// capabilities list the members that can change.
    #[schemars(extend("additionalProperties" = true))]
    pub spec: Replace<Map<String, Value>>,
    /// Whether the resource is protected from deletion.
    pub protection: Replace<bool>,
    /// Reaction to changes made outside this server.
    pub reconcile: Replace<Reconcile>,
    /// Time to live in seconds from now, from 60 to 2592000, after which the resource is deleted. Null or 0 removes it.
    #[schemars(range(max = 2_592_000), extend("anyOf" = [{ "minimum": 60 }, { "const": 0 }, { "type": "null" }]), example = 3600)]
    pub ttl_seconds: Patch<u32>,
}

/// Existing object to import as a resource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImport {
    /// Id of the project that the resource will belong to. Required with a session.
    pub project_id: Option<ProjectId>,
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the provider.
    #[schemars(length(min = 1, max = 63), example = &"sim")]
    pub provider: String,
    /// Provider's identifier of the object.
    #[schemars(length(min = 1, max = 255), regex(pattern = NO_CONTROL_CHARACTERS), example = &"vol-0a1b2c3d")]
    pub provider_ref: String,
    /// Human-readable name: 1 to 63 lowercase letters, digits and inner hyphens.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME), extend("x-form" = NAME_FORM), example = &"web")]
    pub name: String,
    /// Client-defined labels. Default: none.
    pub labels: Option<Labels>,
    /// Whether the resource is protected from deletion. Default: false.
    pub protection: Option<bool>,
    /// Reaction to changes made outside this server. Default: `observe`.
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
    pub fn is_requested(&self) -> bool {
        self.dry_run == Some(true)
    }
}

/// Filter of the list of resources.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ResourceFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Kind of the resources.
    pub kind: Option<Kind>,
    /// Name of the provider.
    #[schemars(length(min = 1, max = 63), regex(pattern = PROVIDER), extend("x-form" = PROVIDER_FORM), example = &"sim")]
    pub provider: Option<String>,
    /// Phase of the resources. Default: all except `deleted`.
    pub phase: Option<Phase>,
    /// Labels that the resources must have: a comma-separated list of `key=value`, or `key` for any value.
    #[schemars(length(max = 1024), regex(pattern = LABELS), extend("x-form" = LABELS_FORM), example = &"env=ci-4711,team")]
    pub label: Option<String>,
    /// Id of a resource that the resources refer to in their spec.
    pub refers_to: Option<ResourceId>,
}

impl ResourceFilter {
    /// Splits the filter into required labels and keys that may have any value.
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

/// What to do with a resource that differs from its object at the provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// Whether to change the object back to the spec, or to create it again, once. Default: as `reconcile` says.
    pub remediate: Option<bool>,
}

/// Filter of the list of operations.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OperationFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Id of the resource.
    pub resource_id: Option<ResourceId>,
    /// Status of the operations.
    pub status: Option<OperationStatus>,
    /// Type of the operations.
    #[serde(rename = "type")]
    pub kind: Option<OperationType>,
}

/// Query of a request for an operation.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OperationWait {
    /// Maximum time to wait for the end of the operation, in seconds, from 0 to 60. Default: 0.
    #[schemars(range(max = 60), extend("default" = 0))]
    pub wait: Option<u8>,
}

patch!(ResourcePatch);
input!(
    NewResource,
    ResourceAction,
    SyncRequest,
    NewImport,
    DryRunQuery,
    OperationWait,
    ListQuery<ResourceFilter>,
    ListQuery<OperationFilter>
);

/// Response to a write: the accepted operation, and the resource meanwhile.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedOperation {
    /// Current state of the resource.
    pub resource: ResourceView,
    /// Operation that executes the change. `Location` has its URL.
    pub operation: OperationView,
    /// Id of the request.
    pub request_id: RequestId,
}

/// Response to a dry run.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DryRun {
    /// Plan of the operation.
    pub plan: Plan,
    /// Id of the request.
    pub request_id: RequestId,
}

/// Plan of an operation.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
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
    use crate::base::input::schema::Input;

    #[test]
    fn spec_is_validated_against_its_kind_and_errors_point_into_it() {
        let faults = |body: Value| {
            let errors = NewResource::rules().schema_faults(&body).into_iter();
            errors
                .map(|item| match item.location {
                    ItemLocation::Body(pointer) => format!("{pointer} {} {}", item.code, item.detail),
                    ItemLocation::Parameter(name) => name,
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
        let errors = faults(volume);
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(faults(json!({ "kind": "storage.volme", "name": "n", "spec": {} }))[0].contains("storage.volume"));
        assert_eq!(spec_faults(Kind::Volume, &json!({ "size_gib": "1" })).len(), 1);
    }

    #[test]
    fn ttl_is_unlimited_or_at_least_a_minute() {
        for (seconds, fits) in [(0, true), (1, false), (59, false), (60, true), (2_592_000, true), (2_592_001, false)] {
            let faults = ResourcePatch::rules().schema_faults(&json!({ "ttl_seconds": seconds }));
            assert_eq!(faults.is_empty(), fits, "{seconds}: {faults:?}");
        }
    }

    #[test]
    fn label_filter_accepts_pairs_and_keys() {
        let filter = |label: &str| ResourceFilter {
            project_id: None,
            kind: None,
            provider: None,
            phase: None,
            label: Some(label.into()),
            refers_to: None,
        };
        let (pairs, keys) = filter("env=ci,team,empty=").labels();
        assert_eq!((Value::Object(pairs), keys), (json!({ "env": "ci", "empty": "" }), vec!["team".to_owned()]));
        let rules = ListQuery::<ResourceFilter>::rules();
        let is_label = |text: &str| rules.schema_faults(&json!({ "label": text })).is_empty();
        for text in ["a", "a=b", "a=", "a/b.c-d=X.y", "a=b,c"] {
            assert!(is_label(text), "{text}");
        }
        for text in ["", "=", "A=b", "a=b,", ",a", "a==b", "a=b c", "a=\u{e9}"] {
            assert!(!is_label(text), "{text}");
        }
    }
}
