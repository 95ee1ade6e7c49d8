//! The form of a spec, drawn from the schema that the API publishes for its kind.

use serde_json::Value;

use super::providers::KindCapabilities;
use crate::{
    base::id::ProjectId,
    console::{
        browser::Visit,
        client::{Call, Fault, List},
        forms::{
            Choice,
            schema::{Offer, Offers, SchemaForm},
        },
    },
    resources::{api::model::ResourceView, kinds::Kind},
};

/// Member of the body with the spec.
const PREFIX: &str = "spec";
/// Maximum number of resources that a list of choices offers. IDs of others are typed.
const MAX_OFFERED: usize = 100;

/// Schema of a kind's spec.
pub async fn schema(visit: &Visit, kind: Kind) -> Result<Value, Fault> {
    Ok(visit.api.send_unrecorded(&Call::get(format!("/v1/schemas/{kind}"))).await?.body)
}

/// Description of a kind.
pub fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The form of a spec at a provider. Offers what the provider has, and the resources that a member can refer to.
pub async fn form(
    visit: &Visit,
    project: ProjectId,
    schema: &Value,
    (provider, capabilities): (&str, &KindCapabilities),
) -> Result<SchemaForm, Fault> {
    let mut offers = Offers::new();
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let kind = member.get("x-resource-kind").and_then(Value::as_str).and_then(|kind| kind.parse().ok());
        let offer = match kind {
            Some(kind) => resources(visit, project, kind, provider).await?.map(Offer::Only),
            None => names(name, capabilities),
        };
        if let Some(offer) = offer {
            offers.insert(name.clone(), offer);
        }
    }
    Ok(SchemaForm::new(schema, PREFIX, &offers))
}

/// Names that the provider has for a member.
fn names(member: &str, capabilities: &KindCapabilities) -> Option<Offer> {
    let known = match member {
        "size" => &capabilities.sizes,
        "image" => &capabilities.images,
        _ => return None,
    };
    match capabilities.native_terms || known.is_empty() {
        true => Some(Offer::Some(known.clone())),
        false => Some(Offer::Only(known.iter().map(|name| Choice::new(name.clone(), name.clone())).collect())),
    }
}

/// Resources of a kind at a provider, as choices. `None` if the person may not read them, or if there are too many.
pub async fn resources(
    visit: &Visit,
    project: ProjectId,
    kind: Kind,
    provider: &str,
) -> Result<Option<Vec<Choice>>, Fault> {
    if !visit.scopes(project).await?.contains(kind.read_scope()) {
        return Ok(None);
    }
    let call = Call::get("/v1/resources").query("project_id", project).query("kind", kind).query("provider", provider);
    let call = call.query("order", "desc").query("limit", MAX_OFFERED);
    let found = visit.api.send_unrecorded::<List<ResourceView>>(&call).await?.body;
    let usable = |resource: &&ResourceView| !matches!(resource.status.phase.as_str(), "failed" | "deleting");
    let choice =
        |resource: &ResourceView| Choice::new(resource.id.to_string(), format!("{} ({})", resource.name, resource.id));
    let choices = found.data.iter().filter(usable).map(choice).collect();
    Ok(Some(choices).filter(|_| found.next_cursor.is_none()))
}
