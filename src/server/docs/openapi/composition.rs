//! Schemas that have all members of another schema, such as an object that is shown together with its new secret. They are
//! published as `allOf` with a reference to that schema, and their own members, so that members are described once.

use serde_json::{Map, Value};

use super::components::reference;

/// Minimum number of members that a schema must have in common with another one.
const MIN_MEMBERS: usize = 3;

/// Publishes every object of `schemas` that has all members of another one as an extension of the largest such object.
pub(super) fn compose(schemas: &mut Map<String, Value>) {
    let originals = schemas.clone();
    for (name, schema) in schemas.iter_mut() {
        let extended = originals.iter().filter(|(other, base)| *other != name && extends(schema, base));
        if let Some((name, base)) = extended.max_by_key(|(_, base)| members(base).map_or(0, Map::len)) {
            extend(schema, name, base);
        }
    }
}

/// Whether `schema` has all members of `base`, and others. Closed objects are excluded: `base` would not allow the other
/// members.
fn extends(schema: &Value, base: &Value) -> bool {
    let (Some(all), Some(common)) = (members(schema), members(base)) else { return false };
    common.len() >= MIN_MEMBERS
        && common.len() < all.len()
        && common.iter().all(|(name, member)| all.get(name) == Some(member))
        && required(base).all(|name| required(schema).any(|of_schema| of_schema == name))
}

/// Returns the members of an open object without further rules.
fn members(schema: &Value) -> Option<&Map<String, Value>> {
    let is_plain = |name: &String| matches!(name.as_str(), "type" | "description" | "properties" | "required");
    let schema = schema.as_object().filter(|schema| schema.keys().all(is_plain))?;
    schema.get("properties")?.as_object()
}

fn required(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten()
}

/// Replaces the members that `schema` has in common with `base` by a reference to it.
fn extend(schema: &mut Value, name: &str, base: &Value) {
    let Value::Object(own) = schema else { return };
    let description = own.remove("description");
    if let (Some(Value::Object(all)), Some(common)) = (own.get_mut("properties"), members(base)) {
        all.retain(|name, _| !common.contains_key(name));
    }
    if let Some(Value::Array(names)) = own.get_mut("required") {
        names.retain(|name| !required(base).any(|of_base| of_base == name));
        if names.is_empty() {
            own.remove("required");
        }
    }
    *schema = extension(name, schema.take(), description);
}

/// Returns the schema that adds the members of `own` to those of the component `base`. They are a part of `allOf`, because
/// generators ignore members next to an `allOf` with a single part.
pub(super) fn extension(base: &str, own: Value, description: Option<Value>) -> Value {
    let mut extension = Map::new();
    extension.extend(description.map(|description| ("description".to_owned(), description)));
    extension.insert("allOf".into(), vec![reference("schemas", base), own].into());
    extension.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(members: &[&str], required: &[&str]) -> Value {
        let members: Map<String, Value> =
            members.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
        json!({ "type": "object", "properties": members, "required": required })
    }

    fn composed(schemas: &[(&str, &Value)]) -> Map<String, Value> {
        let mut schemas = schemas.iter().map(|&(name, schema)| (name.to_owned(), schema.clone())).collect();
        compose(&mut schemas);
        schemas
    }

    #[test]
    fn an_object_refers_to_the_largest_object_whose_members_it_has() {
        let small = object(&["id", "name", "status"], &["id", "name"]);
        let key = object(&["id", "name", "status", "hint"], &["id", "name"]);
        let issued = object(&["id", "name", "status", "hint", "secret"], &["id", "name", "secret"]);
        let schemas = composed(&[("Issued", &issued), ("Key", &key), ("Small", &small)]);
        let expected = json!({
            "allOf": [
                { "$ref": "#/components/schemas/Key" },
                { "type": "object", "properties": { "secret": { "type": "string" } }, "required": ["secret"] },
            ],
        });
        assert_eq!(schemas.get("Issued"), Some(&expected));
        assert_eq!(schemas.get("Small"), Some(&small));
    }

    #[test]
    fn objects_with_another_member_or_fewer_required_ones_or_rules_are_separate() {
        let base = object(&["id", "name", "status"], &["id", "name"]);
        let optional = object(&["id", "name", "status", "hint"], &["id"]);
        let mut other = object(&["id", "name", "status", "key"], &["id", "name"]);
        if let Some(member) = other.pointer_mut("/properties/status") {
            *member = json!({ "type": "integer" });
        }
        let mut closed = object(&["id", "name", "status", "token"], &["id", "name"]);
        if let Value::Object(closed) = &mut closed {
            closed.insert("additionalProperties".into(), false.into());
        }
        let schemas = composed(&[("Base", &base), ("Closed", &closed), ("Optional", &optional), ("Other", &other)]);
        assert!(schemas.values().all(|schema| schema.get("allOf").is_none()), "{schemas:?}");
    }
}
