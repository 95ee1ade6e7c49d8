//! Description of an operation: its parameters, body and responses.

#![allow(clippy::indexing_slicing, reason = "the indexed value is an object created in the preceding lines")]

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::{
    Schema, SchemaGenerator,
    transform::{RecursiveTransform, Transform},
};
use serde_json::{Map, Value, json};

use super::{
    components::{NOT_MODIFIED, Parameters, error_response, headers, pascal_case, reference},
    errors::{self, CodeSets, by_status, describe_codes, errors_of},
    notes::note,
    portable::{Direction, REQUESTS, RESPONSES, publish},
};
use crate::{
    base::{
        error::Code,
        id::{Event, EventId, Kind, ProjectId},
        identity::{
            access_policy::{AccessPolicy, SelfAccess},
            scope::Scope,
            secret::SecretKind,
        },
        input::{schema, text::NO_CONTROL_CHARACTERS},
    },
    http::{
        describe::{Operation, ResponseHeader, SchemaOf},
        response::problem,
    },
};

/// Schema generators: one for requests and one for responses, because a type can have a different schema in each
/// direction.
pub(super) struct Schemas {
    request_generator: SchemaGenerator,
    pub(super) response_generator: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = |path: &str| {
            schema::settings().with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = path.to_owned().into();
            })
        };
        Self {
            request_generator: settings(REQUESTS).into_generator(),
            response_generator: settings(RESPONSES).for_serialize().into_generator(),
        }
    }

    /// Returns the schemas of requests and those of responses.
    pub(super) fn definitions(&mut self) -> (Map<String, Value>, Map<String, Value>) {
        let mut requests = self.request_generator.take_definitions(true);
        requests.values_mut().for_each(exclude_control_characters);
        (requests, self.response_generator.take_definitions(true))
    }

    pub(super) fn operation(&mut self, operation: &Operation, of_all: &CodeSets, parameters: &mut Parameters) -> Value {
        let tag = operation.tag;
        let verb = operation.handler.rsplit("::").next().unwrap_or_default();
        let id = format!("{tag}_{verb}");
        let codes = by_status(errors_of(operation));
        let policy = describe_need(operation);
        let own = codes.values().flatten().filter(|code| !of_all.shared.contains(code));
        let description = [note(&id).map(str::to_owned), Some(policy), describe_codes(&codes, &of_all.common)];
        let mut described = json!({
            "operationId": id,
            "tags": [tag],
            "summary": operation.summary.trim_end_matches('.'),
            "description": description.into_iter().flatten().collect::<Vec<_>>().join("\n\n"),
            "security": security(operation.policy),
            "responses": self.responses(operation, &codes),
            errors::EXTENSION: errors::list(own),
        });
        let parameters = self.parameters(operation, parameters);
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(body) = operation.body {
            let content = json!({ "schema": request(&mut self.request_generator, body.schema) });
            let content: Map<String, Value> =
                body.media_types.iter().map(|&media_type| (media_type.to_owned(), content.clone())).collect();
            described["requestBody"] = json!({ "required": body.required, "content": content });
        }
        described
    }

    fn parameters(&mut self, operation: &Operation, shared: &mut Parameters) -> Vec<Value> {
        let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = names
            .zip(&operation.path_ids)
            .map(|(name, &id)| {
                let parameter = json!({
                    "name": name,
                    "in": "path",
                    "required": true,
                    "description": format!("The {}.", name.replace('_', " ").replace(" id", "'s id")),
                    "schema": request(&mut self.request_generator, id),
                });
                if name.ends_with("_id") { shared.share(&pascal_case(name), parameter) } else { parameter }
            })
            .collect();
        let mut header = |component: &str, name: &str, description: &str, schema: Value| {
            let parameter = json!({ "name": name, "in": "header", "description": description, "schema": schema });
            parameters.push(shared.share(component, parameter));
        };
        if operation.response.is_idempotent() {
            header(
                "IdempotencyKey",
                "Idempotency-Key",
                "Unique key of this write, such as a UUID. A request that repeats it within 24 hours is not executed and gets the first response.",
                json!({ "type": "string", "minLength": 1, "maxLength": 257, "pattern": r#"^([!#-~][!-~]{0,254}|"[!#-\[\]-~]{1,255}")$"#, "examples": ["0195f2d4-1c7e-7b3a-9f00-5d2e8a4c6b10"] }),
            );
        }
        if operation.conditional {
            let tags = json!({ "type": "string", "pattern": ETAGS, "examples": ["\"7\""] });
            header(
                "IfMatch",
                "If-Match",
                "The `ETag` that the item must still have, or a comma-separated list, or `*`; otherwise the response is 412. A weak ETag (`W/`) never matches.",
                tags.clone(),
            );
            if operation.method == Method::GET {
                header(
                    "IfNoneMatch",
                    "If-None-Match",
                    "The `ETag` that you have, or a comma-separated list, or `*`. If the item still has it, the response is 304 without a body.",
                    tags,
                );
            } else {
                header(
                    "IfNoneMatchOnWrite",
                    "If-None-Match",
                    "The `ETag` that the item must not have, or a comma-separated list, or `*`; otherwise the response is 412.",
                    tags,
                );
            }
        }
        if operation.resumable {
            header(
                "LastEventId",
                "Last-Event-ID",
                "The last `id` of the previous stream. The new stream continues after it without a gap. Default: only new events.",
                json!({ "type": "string", "pattern": EventId::pattern(), "examples": [Event::EXAMPLE] }),
            );
        }
        for (name, property) in operation.query.iter().flat_map(|rules| rules.properties()) {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|property| property.remove("description"));
            forbid_null(&mut property);
            // The parameter's own description replaces that of its type.
            property.as_object_mut().and_then(|property| property.remove("description"));
            let mut component = None;
            // The document is stricter than the validation of the query string: an id of another kind has its own error
            // code, and 404 must not reveal whether an id is malformed or belongs to another project.
            match name.as_str() {
                "cursor" => {
                    if let Some((list, cursor)) = self.cursor(operation) {
                        property = cursor;
                        component = Some(format!("{}Cursor", list.trim_end_matches("List")));
                    }
                    // Providers have no ids; their names are the cursors.
                    if operation.tag == "providers" {
                        property =
                            json!({ "type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$", "examples": ["sim"] });
                    }
                }
                "project_id" => {
                    property = self.request_generator.subschema_for::<ProjectId>().to_value();
                    component = Some("ProjectIdFilter".into());
                }
                "limit" | "order" | "dry_run" => component = Some(pascal_case(name)),
                _ => {}
            }
            exclude_control_characters(&mut property);
            publish(&mut property, Direction::Request);
            let parameter = json!({ "name": name, "in": "query", "description": description, "schema": property });
            parameters.push(match component {
                Some(component) => shared.share(&component, parameter),
                None => parameter,
            });
        }
        parameters
    }

    /// Returns the name of the operation's list, and the schema of its `next_cursor`, which is also the schema of
    /// `cursor`.
    fn cursor(&mut self, operation: &Operation) -> Option<(String, Value)> {
        let list = schema_of(&mut self.response_generator, operation.response.schema);
        let name = list["$ref"].as_str()?.rsplit('/').next()?;
        let mut cursor = self.response_generator.definitions().get(name)?.pointer("/properties/next_cursor")?.clone();
        cursor.as_object_mut()?.remove("description");
        Some((name.to_owned(), cursor))
    }

    fn responses(&mut self, operation: &Operation, codes: &BTreeMap<u16, Vec<Code>>) -> Value {
        let answer = operation.response;
        let mut used = vec!["X-Request-Id"];
        let optional = [
            (answer.has(ResponseHeader::Location), "Location"),
            (answer.is_idempotent(), "Idempotent-Replayed"),
            (answer.has(ResponseHeader::UsageAsOf), "Usage-As-Of"),
            (answer.has(ResponseHeader::ETag), "ETag"),
        ];
        used.extend(optional.iter().filter(|(is_sent, _)| *is_sent).map(|(_, header)| header));
        let mut responses = Map::new();
        let schema = response(&mut self.response_generator, answer.schema);
        let content: Map<String, Value> =
            answer.media_types.iter().map(|&media_type| (media_type.to_owned(), json!({ "schema": schema }))).collect();
        responses.insert(
            answer.status.to_string(),
            json!({ "description": answer.description, "headers": headers(&used), "content": content }),
        );
        if let Some((status, description, schema)) = answer.dry_run {
            let content = json!({ "application/json": { "schema": response(&mut self.response_generator, schema) } });
            responses.insert(
                status.to_string(),
                json!({ "description": description, "headers": headers(&["X-Request-Id"]), "content": content }),
            );
        }
        if operation.conditional && operation.method == Method::GET {
            responses.insert("304".into(), reference("responses", NOT_MODIFIED));
        }
        for (status, description) in answer.others {
            let used = if *status == 302 { &["X-Request-Id", "Location-Redirect"][..] } else { &["X-Request-Id"] };
            responses.insert(status.to_string(), json!({ "description": description, "headers": headers(used) }));
        }
        for status in codes.keys() {
            let reference = match (operation.path, status) {
                // The only error status whose body is not always a problem document.
                ("/readyz", 503) => reference("responses", NOT_READY),
                _ => error_response(*status),
            };
            responses.insert(status.to_string(), reference);
        }
        responses.into()
    }

    /// Describes the response of the readiness probe while the server is not ready: the report, or a problem document.
    pub(super) fn not_ready(&mut self, operations: &[&Operation], codes: &CodeSets, problem: &Value) -> Option<Value> {
        let probe = operations.iter().find(|operation| operation.path == "/readyz")?;
        Some(json!({
            "description": "Not ready; send requests elsewhere.",
            "headers": headers(&["X-Request-Id"]),
            "content": {
                "application/json": { "schema": response(&mut self.response_generator, probe.response.schema) },
                problem::MEDIA_TYPE: { "schema": problem },
            },
            errors::EXTENSION: errors::list(by_status(codes.shared.iter().copied()).get(&503).into_iter().flatten()),
        }))
    }
}

/// Component name of [`Schemas::not_ready`].
pub(super) const NOT_READY: &str = "NotReady";

fn request(generator: &mut SchemaGenerator, of: SchemaOf) -> Value {
    let mut schema = schema_of(generator, of);
    publish(&mut schema, Direction::Request);
    schema
}

fn response(generator: &mut SchemaGenerator, of: SchemaOf) -> Value {
    let mut schema = schema_of(generator, of);
    publish(&mut schema, Direction::Response);
    schema
}

/// Pattern of `*` or a comma-separated list of entity tags (RFC 9110 §13.1).
const ETAGS: &str = r#"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#;

pub(super) fn schema_of(generator: &mut SchemaGenerator, of: SchemaOf) -> Value {
    of(generator).to_value()
}

/// Excludes control characters from every text of a request. A text with a pattern or a list of values is left
/// unchanged, because these are stricter.
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

/// Removes null from a schema: an optional query parameter is omitted, never null.
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

pub(super) fn security(policy: AccessPolicy) -> Value {
    let alternative = |kind, scopes: &[Scope]| json!({ scheme_name(kind): scopes });
    match policy.scopes() {
        [] => policy.kinds().iter().map(|&kind| alternative(kind, &[])).collect(),
        // Each scope alone is sufficient.
        scopes => policy
            .kinds()
            .iter()
            .flat_map(|&kind| scopes.iter().map(move |&scope| alternative(kind, &[scope])))
            .collect(),
    }
}

pub(super) fn scheme_name(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Session | SecretKind::Console => "session",
        SecretKind::Key => "key",
        SecretKind::Token | SecretKind::Invitation | SecretKind::SignInLink => "token",
    }
}

pub(super) fn describe_need(operation: &Operation) -> String {
    let kinds: Vec<&str> = operation.policy.kinds().iter().copied().map(scheme_name).collect();
    match operation.policy {
        AccessPolicy::Public => "Credential: none.".into(),
        AccessPolicy::SignIn => "Credential: none. Attempts are rate-limited per client address.".into(),
        AccessPolicy::Session => "Credential: session.".into(),
        AccessPolicy::Scoped { owner: true, .. } => "Credential: session of a project owner.".into(),
        AccessPolicy::Scoped { scopes: [one, other, another], .. } => format!(
            "Credential: {}. Scope: `{one}`, `{other}` or `{another}`, by the resource's kind.",
            kinds.join(" or ")
        ),
        AccessPolicy::Scoped { scopes, self_access, .. } => match self_access {
            SelfAccess::Standard => format!("Credential: {}. Scope: {}.", kinds.join(" or "), quoted(scopes)),
            SelfAccess::ScopeNotRequired => format!(
                "Credential: {}. Scope: {}; none for the credential itself.",
                kinds.join(" or "),
                quoted(scopes)
            ),
            SelfAccess::KeySelfOnly => {
                format!("Credential: session with the scope {}, or the key itself without a scope.", quoted(scopes))
            }
        },
    }
}

fn quoted(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(" or ")
}
