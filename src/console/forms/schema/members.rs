//! Members of a schema: their shapes, labels and hints.

use serde_json::Value;

use super::{Member, Offer, Offers, Shape};
use crate::console::forms::Choice;

/// Maximum depth of nested objects. Deeper ones are typed as JSON.
const MAX_DEPTH: usize = 4;

/// The members of `schema`, which is part of the document `root`.
pub fn of(root: &Value, schema: &Value, prefix: &str, offers: &Offers) -> Vec<Member> {
    let required: Vec<&str> = texts(schema.get("required"));
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let member = |(name, schema): (&String, &Value)| {
        let schema = resolve(root, schema);
        let field = format!("{prefix}.{name}");
        let offer = offers.get(field.split_once('.').map_or(name.as_str(), |(_, path)| path));
        // Schemas of responses require members with a default, which requests may leave out.
        let is_required = required.contains(&name.as_str()) && schema.get("default").is_none();
        let shape = shape(root, schema, &field, offer, offers);
        Member {
            name: name.clone(),
            label: label(name),
            hint: hint(schema, &shape, offer),
            is_nullable: types(schema).contains(&"null"),
            field,
            shape,
            is_required,
        }
    };
    let mut members: Vec<Member> = properties.map(member).collect();
    // Properties come in the order of the alphabet. What is needed comes first.
    members.sort_by_key(|member| !member.is_required);
    members
}

fn shape(root: &Value, schema: &Value, field: &str, offer: Option<&Offer>, offers: &Offers) -> Shape {
    let choices = match offer {
        Some(Offer::Only(choices)) => Some(choices.clone()),
        _ => values(schema),
    };
    let types: Vec<&str> = types(schema).into_iter().filter(|name| *name != "null").collect();
    match (types.as_slice(), choices) {
        (["array"], Some(choices)) => Shape::Many(choices.into_iter().map(with_id_below).collect()),
        (_, Some(choices)) => Shape::One(choices),
        (["string"], None) => Shape::Text,
        (["integer" | "number"], None) => Shape::Number,
        (["boolean"], None) => Shape::Boolean,
        (["array"], None) => {
            let items = schema.get("items").map_or(&Value::Null, |items| resolve(root, items));
            match (values(items), scalar(items)) {
                (Some(choices), _) => Shape::Many(choices),
                (None, Some(is_number)) => Shape::Lines(is_number),
                (None, None) => Shape::Json,
            }
        }
        (["object"], None) if schema.get("properties").is_some() && field.matches('.').count() < MAX_DEPTH => {
            Shape::Object(of(root, schema, field, offers))
        }
        (["object"], None) => {
            let of_values = schema.get("additionalProperties").map(|values| resolve(root, values));
            of_values.and_then(scalar).map_or(Shape::Json, Shape::Map)
        }
        _ => Shape::Json,
    }
}

/// A choice "data (res_1)" as "data", with the ID below it.
fn with_id_below(choice: Choice) -> Choice {
    let name = choice.label.strip_suffix(&format!(" ({})", choice.value)).map(str::to_owned);
    match name {
        Some(name) => {
            let id = choice.value.clone();
            Choice { label: name, ..choice }.hint(id)
        }
        None => choice,
    }
}

/// Follows a reference to a definition of the document.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    let target = pointer.and_then(|pointer| root.pointer(pointer));
    // `anyOf` of a reference and null is an optional reference.
    let optional = schema.get("anyOf").and_then(Value::as_array).map(|any| {
        any.iter().filter(|schema| schema.get("type").and_then(Value::as_str) != Some("null")).collect::<Vec<_>>()
    });
    match (target, optional.as_deref()) {
        (Some(target), _) => target,
        (None, Some([only])) if only.get("$ref").is_some() => resolve(root, only),
        _ => schema,
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        many => texts(many),
    }
}

/// Whether a schema is that of a number. `None` if it is neither a text nor a number.
fn scalar(schema: &Value) -> Option<bool> {
    match types(schema).as_slice() {
        ["string"] => Some(false),
        ["integer" | "number"] => Some(true),
        _ => None,
    }
}

/// Values of an enum of texts.
fn values(schema: &Value) -> Option<Vec<Choice>> {
    let values = schema.get("enum")?.as_array()?;
    values
        .iter()
        .filter(|value| !value.is_null())
        .map(|value| Some(Choice::new(value.as_str()?, value.as_str()?)))
        .collect()
}

fn texts(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Units at the end of a name.
const UNITS: [(&str, &str); 6] = [
    ("_gib", "GiB"),
    ("_mib", "MiB"),
    ("_bytes", "bytes"),
    ("_seconds", "seconds"),
    ("_ms", "milliseconds"),
    ("_percent", "percent"),
];

/// Name of a member for people: `size_gib` is "Size (GiB)".
pub fn label(name: &str) -> String {
    let unit = UNITS.iter().find(|(end, _)| name.ends_with(end));
    let (words, unit) = unit.map_or((name, None), |(end, unit)| (name.trim_end_matches(end), Some(unit)));
    let words: Vec<String> = words.split('_').enumerate().map(|(index, word)| spell(word, index == 0)).collect();
    let unit = unit.map(|unit| format!(" ({unit})")).unwrap_or_default();
    format!("{}{unit}", words.join(" "))
}

fn spell(word: &str, is_first: bool) -> String {
    if matches!(word, "cidr" | "cpu" | "dns" | "id" | "ip" | "tls" | "ttl" | "url" | "vpc") {
        return word.to_uppercase();
    }
    let mut characters = word.chars();
    match characters.next() {
        Some(first) if is_first => first.to_uppercase().chain(characters).collect(),
        _ => word.to_owned(),
    }
}

/// Description of a member, with its bounds and an example if the description does not have them.
fn hint(schema: &Value, shape: &Shape, offer: Option<&Offer>) -> String {
    match (shape, offer) {
        // The choices say what the description would.
        (Shape::One(_), Some(Offer::Only(_)))
            if schema.get("default").is_none() && !types(schema).contains(&"null") =>
        {
            return String::new();
        }
        (Shape::Text, Some(Offer::Some(names))) if !names.is_empty() => {
            return format!("Such as {}, or the provider’s own name.", names.join(", "));
        }
        _ => {}
    }
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let first = description.split("\n\n").next().unwrap_or_default().replace('`', "");
    let text = |name: &str| schema.get(name).map(ToString::to_string);
    let mut hint = first.clone();
    let mut add = |sentence: String| {
        hint = if hint.is_empty() { sentence } else { format!("{hint} {sentence}") };
    };
    let is_stated = |bound: &Option<String>| bound.as_ref().is_none_or(|bound| first.contains(bound.as_str()));
    let (least, most) = (text("minimum"), text("maximum"));
    if !is_stated(&least) || !is_stated(&most) {
        match (least, most) {
            (Some(least), Some(most)) => add(format!("From {least} to {most}.")),
            (Some(least), None) => add(format!("At least {least}.")),
            (None, Some(most)) => add(format!("At most {most}.")),
            (None, None) => {}
        }
    }
    match (shape, offer) {
        (Shape::One(_) | Shape::Many(_) | Shape::Boolean | Shape::Object(_), _) => {}
        (Shape::Lines(_), _) => add("One on each line.".into()),
        (Shape::Map(_), _) => add("One key=value on each line.".into()),
        (Shape::Json, _) => add("As JSON.".into()),
        (Shape::Text | Shape::Number, _) => {
            let example = schema.get("examples").and_then(|examples| examples.get(0));
            let example = example.map(|example| example.as_str().map_or_else(|| example.to_string(), str::to_owned));
            if let Some(example) = example.filter(|example| !first.contains(example.as_str())) {
                add(format!("Example: {example}"));
            }
        }
    }
    hint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_for_people() {
        let spelled = ["size_gib", "cidr", "ttl_seconds", "private_ip", "image"].map(label);
        assert_eq!(spelled, ["Size (GiB)", "CIDR", "TTL (seconds)", "Private IP", "Image"]);
    }
}
