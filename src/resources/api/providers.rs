//! `/v1/providers` and `/v1/schemas`.

use std::sync::Arc;

use axum::{
    RequestPartsExt,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    auth::grant::Grant,
    base::{
        error::{Error, Result},
        etag::{EntityTag, Versioned},
        identity::scope::of::ResourcesRead,
        input::{
            page::{ListQuery, NoFilter, Order, rows_for, truncate_page},
            schema,
        },
    },
    http::{
        describe::{Argument, Operation},
        request::extract::{KnownValue, PathValue, Query},
        response::{List, WithEtag},
    },
    resources::{
        ResourceContext,
        drivers::{config::is_provider_name, driver::Capabilities, registry::Provider},
        kinds::Kind,
    },
};

/// Provider as clients see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Provider")]
pub struct ProviderView {
    /// Name of the provider.
    pub name: String,
    /// Name of the driver: `sim`, `aws` or `docker`.
    pub driver: &'static str,
    /// Region in the provider's terms; null if the provider has none.
    pub region: Option<String>,
    /// Capabilities of the provider.
    pub capabilities: Capabilities,
}

impl Versioned for ProviderView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

impl From<&Provider> for ProviderView {
    fn from(provider: &Provider) -> Self {
        Self {
            name: provider.name.clone(),
            driver: provider.driver_name,
            region: Some(provider.region.clone()).filter(|region| !region.is_empty()),
            capabilities: provider.capabilities().clone(),
        }
    }
}

/// Lists providers, ordered by name.
pub async fn list(
    grant: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    Query(query): Query<ListQuery<NoFilter>>,
) -> Result<List<ProviderView>> {
    let after = query.cursor("the name of a provider", |name| is_provider_name(name).then(|| name.to_owned()))?;
    let is_after_cursor = |name: &str| match (&after, query.order()) {
        (None, _) => true,
        (Some(after), Order::Asc) => name > after.as_str(),
        (Some(after), Order::Desc) => name < after.as_str(),
    };
    let mut all: Vec<&Provider> =
        context.cloud.providers.iter().filter(|provider| is_after_cursor(&provider.name)).collect();
    if query.order() == Order::Desc {
        all.reverse();
    }
    all.truncate(usize::try_from(rows_for(query.limit())).unwrap_or_default());
    let (page, next) = truncate_page(all, query.limit(), |provider| provider.name.clone());
    Ok(List::from_items(page.into_iter().map(ProviderView::from).collect(), next, grant.request().id))
}

/// Gets a provider.
pub async fn get(
    _: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    ProviderName(name): ProviderName,
) -> Result<WithEtag<ProviderView>> {
    let provider = context.cloud.providers.get(&name);
    provider.map(|provider| WithEtag(provider.into())).ok_or_else(Error::not_found)
}

/// Name in the path.
#[derive(Debug)]
pub struct ProviderName(String);

impl<S: Send + Sync> FromRequestParts<S> for ProviderName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(Self(parts.extract::<Path<String>>().await.map(|Path(name)| name).unwrap_or_default()))
    }
}

impl Argument for ProviderName {
    fn describe(operation: &mut Operation) {
        operation.path_ids.push(|_: &mut SchemaGenerator| {
            json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$", "examples": ["sim"] })
        });
    }
}

impl KnownValue for Kind {
    const NOUN: &'static str = "a kind of resource";
    const ALL: &'static [Self] = Self::ALL;

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

/// Gets the schema of a kind's spec.
pub async fn schema(
    _: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    PathValue(kind): PathValue<Kind>,
) -> Result<WithEtag<SpecSchema>> {
    let mut schema = kind.root_schema(schema::settings().into_generator());
    schema.insert("$id".into(), format!("{}/v1/schemas/{kind}", context.public_url).into());
    schema.insert("x-providers".into(), capabilities_by_provider(&context, kind).into());
    Ok(WithEtag(SpecSchema(schema.to_value())))
}

/// Capabilities of each provider that supports the kind.
fn capabilities_by_provider(context: &ResourceContext, kind: Kind) -> Map<String, Value> {
    let providers = context.cloud.providers.iter();
    providers.filter_map(|provider| Some((provider.name.clone(), json!(provider.capabilities().of(kind)?)))).collect()
}

/// JSON Schema of a spec.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct SpecSchema(Value);

impl Versioned for SpecSchema {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

impl JsonSchema for SpecSchema {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SpecSchema".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "JSON Schema (2020-12) of a spec.",
            "required": ["$id", "$schema", "type", "properties", "x-providers"],
            "properties": {
                "$id": { "type": "string", "description": "URL of the schema.", "format": "uri-reference" },
                "$schema": { "type": "string", "description": "URL of the JSON Schema dialect.", "format": "uri" },
                "type": { "type": "string", "description": "Always `object`." },
                "properties": { "type": "object", "description": "Members of the spec.", "additionalProperties": true },
                "x-providers": {
                    "type": "object",
                    "description": "Capabilities of each provider that supports the kind, such as sizes and images.",
                    "additionalProperties": true,
                },
            },
            "additionalProperties": true,
        })
    }
}
