//! One operation's description: its parameters, its body and its answers.

#![allow(clippy::indexing_slicing, reason = "what is indexed is an object that the line above it made")]

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::{
    Schema, SchemaGenerator,
    transform::{RecursiveTransform, Transform},
};
use serde_json::{Map, Value, json};

use super::{
    errors::{errors_of, problem_response, with_codes},
    notes::note,
    tag_of,
};
use crate::{
    base::{
        error::Code,
        id::{Event, EventId, Kind, ProjectId, Request, RequestId},
        need::{Itself, Need},
        schema,
        scope::Scope,
        secret::SecretKind,
        text::NO_CONTROL_CHARACTERS,
    },
    http::{
        catalogue::entry,
        describe::{Operation, SchemaOf},
    },
};

/// Two generators, because a type may look different read and written, over one set of names.
pub(super) struct Schemas {
    read: SchemaGenerator,
    pub(super) written: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            schema::settings().with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = "/components/schemas".into();
            })
        };
        Self { read: settings().into_generator(), written: settings().for_serialize().into_generator() }
    }

    pub(super) fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.read.take_definitions(true);
        all.values_mut().for_each(exclude_control_characters);
        all.extend(self.written.take_definitions(true));
        all
    }

    pub(super) fn operation(&mut self, operation: &Operation, problem: &Value) -> Value {
        let tag = tag_of(operation);
        let verb = operation.handler.rsplit("::").next().unwrap_or_default();
        let id = format!("{tag}_{verb}");
        let need = describe_need(operation);
        let description = note(&id).map_or_else(|| need.clone(), |note| format!("{note}\n\n{need}"));
        let mut described = json!({
            "operationId": id,
            "tags": [tag],
            "summary": operation.summary.trim_end_matches('.'),
            "description": description,
            "security": security(operation.need),
            "responses": self.responses(operation, problem),
        });
        let parameters = self.parameters(operation);
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(body) = operation.body {
            let content = json!({ "schema": schema_of(&mut self.read, body.schema) });
            let content: Map<String, Value> =
                body.media_types.iter().map(|&media_type| (media_type.to_owned(), content.clone())).collect();
            described["requestBody"] = json!({ "required": body.required, "content": content });
        }
        described
    }

    pub(super) fn parameters(&mut self, operation: &Operation) -> Vec<Value> {
        let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = names
            .zip(&operation.path_ids)
            .map(|(name, &id)| {
                json!({
                    "name": name,
                    "in": "path",
                    "required": true,
                    "description": format!("The {}.", name.replace('_', " ").replace(" id", "'s id")),
                    "schema": schema_of(&mut self.read, id),
                })
            })
            .collect();
        if operation.answer.once {
            parameters.push(json!({
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A name of your own for this write, such as a UUID. Sent again within 24 hours with the same key, it is not done again: you get the first answer.",
                "schema": { "type": "string", "minLength": 1, "maxLength": 257, "pattern": r#"^([!#-~][!-~]{0,254}|"[!#-\[\]-~]{1,255}")$"#, "examples": ["0195f2d4-1c7e-7b3a-9f00-5d2e8a4c6b10"] },
            }));
        }
        if operation.conditional {
            parameters.push(json!({
                "name": "If-Match",
                "in": "header",
                "description": "The `ETag` that the item must still have, or several with commas between, or `*`; else the answer is 412. A weak ETag (`W/`) never matches here.",
                "schema": { "type": "string", "pattern": ETAGS, "examples": ["\"7\""] },
            }));
            parameters.push(json!({
                "name": "If-None-Match",
                "in": "header",
                "description": if operation.method == Method::GET {
                    "The `ETag` that you have, or several with commas between, or `*`; when the item still has it, the answer is 304 without a body."
                } else {
                    "The `ETag` that the item must not have, or several with commas between, or `*`; when it has it, the answer is 412."
                },
                "schema": { "type": "string", "pattern": ETAGS, "examples": ["\"7\""] },
            }));
        }
        if operation.resumable {
            parameters.push(json!({
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The last `id` of the stream before: what comes goes on after it, without a gap. Left out, it starts with what happens from now on.",
                "schema": { "type": "string", "pattern": EventId::pattern(), "examples": [Event::EXAMPLE] },
            }));
        }
        for (name, property) in operation.query.iter().flat_map(|rules| rules.properties()) {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|property| property.remove("description"));
            forbid_null(&mut property);
            // The parameter's own says more than that of its type.
            property.as_object_mut().and_then(|property| property.remove("description"));
            // Described more narrowly than the rules of the query string are, because an id of
            // another kind has an answer of its own, and 404 must not tell malformed from foreign.
            match name.as_str() {
                "cursor" => {
                    property = self.cursor(operation).unwrap_or(property);
                    // Providers have no ids: their names are the cursors.
                    if property.get("pattern").is_none() {
                        property =
                            json!({ "type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$", "examples": ["sim"] });
                    }
                }
                "project_id" => property = self.read.subschema_for::<ProjectId>().to_value(),
                _ => {}
            }
            exclude_control_characters(&mut property);
            parameters.push(json!({ "name": name, "in": "query", "description": description, "schema": property }));
        }
        parameters
    }

    /// A cursor is what the list answers as `next_cursor`.
    pub(super) fn cursor(&mut self, operation: &Operation) -> Option<Value> {
        let list = schema_of(&mut self.written, operation.answer.schema);
        let name = list["$ref"].as_str()?.rsplit('/').next()?;
        let mut cursor = self.written.definitions().get(name)?.pointer("/properties/next_cursor")?.clone();
        cursor.as_object_mut()?.remove("description");
        Some(cursor)
    }

    pub(super) fn responses(&mut self, operation: &Operation, problem: &Value) -> Value {
        let answer = operation.answer;
        let request_id = json!({ "X-Request-Id": request_id_header() });
        let mut headers = request_id.clone();
        if answer.location {
            headers["Location"] =
                header("The path of what was made.", json!({ "type": "string", "format": "uri-reference" }));
        }
        if answer.once {
            headers["Idempotent-Replayed"] = optional_header(
                "`true` when this is the answer to an earlier sending with the same `Idempotency-Key`.",
            );
        }
        if answer.as_of {
            headers["Usage-As-Of"] = header(
                "All that was counted before this instant is in the answer, on whichever server; about a second ago, unless a server has not reported since.",
                json!({ "type": "string", "format": "date-time" }),
            );
        }
        if answer.etag {
            headers["ETag"] = header(
                "The entity tag of the item's state; send it as `If-Match` to change no other state, and as `If-None-Match` to read only what has changed.",
                json!({ "type": "string", "examples": ["\"7\""] }),
            );
        }
        let mut responses = Map::new();
        let content: Map<String, Value> = answer
            .media_types
            .iter()
            .map(|&media_type| {
                (media_type.to_owned(), json!({ "schema": schema_of(&mut self.written, answer.schema) }))
            })
            .collect();
        responses.insert(
            answer.status.to_string(),
            json!({ "description": answer.description, "headers": headers, "content": content }),
        );
        if let Some((status, description, schema)) = answer.dry_run {
            let schema = schema_of(&mut self.written, schema);
            let content = json!({ "application/json": { "schema": schema } });
            responses.insert(
                status.to_string(),
                json!({ "description": description, "headers": request_id, "content": content }),
            );
        }
        if operation.conditional && operation.method == Method::GET {
            let headers = json!({ "X-Request-Id": request_id_header(), "ETag": headers["ETag"] });
            let description = "The item still has the state whose `ETag` is in `If-None-Match`.";
            responses.insert("304".into(), json!({ "description": description, "headers": headers }));
        }
        for (status, description) in answer.others {
            let mut headers = request_id.clone();
            if *status == 302 {
                headers["Location"] = header("Where to go.", json!({ "type": "string", "format": "uri-reference" }));
            }
            responses.insert(status.to_string(), json!({ "description": description, "headers": headers }));
        }
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in errors_of(operation) {
            by_status.entry(entry(code).status.as_u16()).or_default().push(code);
        }
        for (status, codes) in by_status {
            responses.insert(status.to_string(), problem_response(status, &codes, &with_codes(problem, &codes)));
        }
        if operation.path == "/readyz" {
            // The one 503 that is no problem document: the same body, with what is wrong in it.
            responses.insert(
                "503".into(),
                json!({
                    "description": "Not ready; send requests elsewhere.",
                    "headers": request_id,
                    "content": content,
                }),
            );
        }
        responses.into()
    }
}

/// `*`, or entity tags with commas between (RFC 9110 §13.1).
const ETAGS: &str = r#"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#;

pub(super) fn schema_of(generator: &mut SchemaGenerator, of: SchemaOf) -> Value {
    of(generator).to_value()
}

/// Describes the rule for every text of a request: no control characters. A pattern or a list of values says more.
fn exclude_control_characters(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let is_text = match members.get("type") {
                Some(Value::String(kind)) => kind == "string",
                Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
                _ => false,
            };
            let says_more = ["pattern", "enum", "const"].iter().any(|name| members.contains_key(*name));
            let is_parsed = members.get("format").is_some_and(|format| format != "password");
            if is_text && !says_more && !is_parsed {
                members.insert("pattern".into(), NO_CONTROL_CHARACTERS.into());
            }
            let parts = members.iter_mut().filter(|(name, _)| !matches!(name.as_str(), "examples" | "default"));
            parts.for_each(|(_, part)| exclude_control_characters(part));
        }
        Value::Array(items) => items.iter_mut().for_each(exclude_control_characters),
        _ => {}
    }
}

pub(super) fn request_id_header() -> Value {
    let schema = json!({ "type": "string", "pattern": RequestId::pattern(), "examples": [Request::EXAMPLE] });
    header("The request's id; quote it when you ask for help.", schema)
}

/// A header that every answer of this kind has.
pub(super) fn header(description: &str, schema: Value) -> Value {
    json!({ "description": description, "required": true, "schema": schema })
}

/// A header that some of them have.
pub(super) fn optional_header(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

/// In a query string nothing is null; what is optional is left out.
pub(super) fn forbid_null(property: &mut Value) {
    let drop_null = |schema: &mut Schema| {
        if let Some(Value::Array(kinds)) = schema.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [only] = kinds.as_slice() {
                let only = only.clone();
                schema.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
            alternatives.retain(|alternative| alternative["type"] != "null");
            if let [Value::Object(only)] = alternatives.as_mut_slice() {
                let only = std::mem::take(only);
                schema.remove("anyOf");
                for (name, value) in only {
                    schema.ensure_object().entry(name).or_insert(value);
                }
            }
        }
    };
    if let Ok(schema) = <&mut Schema>::try_from(property) {
        RecursiveTransform(drop_null).transform(schema);
    }
}

pub(super) fn security(need: Need) -> Value {
    let alternative = |kind, scopes: &[Scope]| json!({ scheme_name(kind): scopes });
    match need.scopes() {
        [] => need.kinds().iter().map(|&kind| alternative(kind, &[])).collect(),
        // Each is enough.
        scopes => {
            need.kinds().iter().flat_map(|&kind| scopes.iter().map(move |&scope| alternative(kind, &[scope]))).collect()
        }
    }
}

pub(super) fn scheme_name(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Session => "session",
        SecretKind::Key => "key",
        SecretKind::Token | SecretKind::Invitation => "token",
    }
}

pub(super) fn describe_need(operation: &Operation) -> String {
    let kinds: Vec<&str> = operation.need.kinds().iter().copied().map(scheme_name).collect();
    match operation.need {
        Need::Public => "Needs no credential.".into(),
        Need::SignIn => "Needs no credential. An address that tries too often has to wait.".into(),
        Need::Session => "Needs a session.".into(),
        Need::Scoped { owner: true, .. } => "Needs a session of one of the project's owners.".into(),
        Need::Scoped { scopes: [one, other, another], .. } => format!(
            "Needs a {} with the scope `{one}`, `{other}` or `{another}`: the one of the resource's kind.",
            kinds.join(" or a ")
        ),
        Need::Scoped { scopes, itself, .. } => match itself {
            Itself::AsOthers => format!("Needs a {} with the scope {}.", kinds.join(" or a "), quoted(scopes)),
            Itself::WithoutScope => format!(
                "Needs a {} with the scope {}. A credential may always do this to itself.",
                kinds.join(" or a "),
                quoted(scopes)
            ),
            Itself::KeyOnlyItself => {
                format!("Needs a session with the scope {}, or the key itself, which needs no scope.", quoted(scopes))
            }
        },
    }
}

fn quoted(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(" or ")
}
