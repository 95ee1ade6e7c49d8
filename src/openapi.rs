//! The API's description (OpenAPI 3.1), made from what the route table and the handlers' signatures say.

#![allow(clippy::indexing_slicing, reason = "what is indexed is an object that the line above it made")]

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{RecursiveTransform, Transform},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    base::{error::Code, id::ProjectId, need::Need, secret::SecretKind},
    http::{
        describe::{Operation, SchemaOf},
        problem::{self, Problem, status_and_title},
    },
};

/// The document, as it is served.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Document(pub &'static Value);

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "Document".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "An OpenAPI 3.1 document.",
            "required": ["openapi", "info", "paths"],
            "properties": {
                "openapi": { "type": "string", "description": "The version of OpenAPI.", "pattern": "^3\\.1\\." },
                "info": { "type": "object", "description": "What the API is.", "additionalProperties": true },
                "paths": { "type": "object", "description": "Its operations.", "additionalProperties": true },
            },
            "additionalProperties": true,
        })
    }
}

/// The document that describes `operations`.
pub fn describe<'a>(operations: impl Iterator<Item = &'a Operation>) -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.written.subschema_for::<Problem>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut tags: Vec<&str> = Vec::new();
    for operation in operations {
        let tag = tag_of(operation);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        let described = schemas.operation(operation, &problem.as_value().clone());
        paths.entry(operation.path).or_default().insert(operation.method.as_str().to_lowercase(), described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "CloudAPI",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": include_str!("openapi.md"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This server." }],
        "tags": tags.iter().map(|tag| json!({ "name": tag, "description": tag_description(tag) })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": security_scheme("`sess_…`: a signed-in person's dashboard backend. It sees every project of its user, with the scopes of the user's role there."),
                "key": security_scheme("`sk_live_…`: a project's servers and CI. It sees its own project."),
                "token": security_scheme("`cap_…`: a service. It sees its own project, with its own scopes."),
            },
            "schemas": schemas.definitions(),
        },
    })
}

fn security_scheme(description: &str) -> Value {
    json!({ "type": "http", "scheme": "bearer", "description": description })
}

/// `cloudapi::keys::handlers::create` is of `keys`, and `cloudapi::health::live` of `health`.
fn tag_of(operation: &Operation) -> &'static str {
    operation.handler.split("::").nth(1).unwrap_or("other")
}

fn tag_description(tag: &str) -> &'static str {
    match tag {
        "sessions" => "Signing in and out, for dashboards.",
        "projects" => "What keys, tokens and members belong to.",
        "keys" => "A project's credentials, for servers and CI.",
        "tokens" => "Scoped, expiring credentials, for services.",
        "users" => "People, as members of projects.",
        "usage" => "How many requests a project made.",
        "health" => "Whether the server lives and is ready.",
        _ => "This description.",
    }
}

/// Two generators, because a type may look different read and written, over one set of names.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = "/components/schemas".into();
            })
        };
        Self { read: settings().into_generator(), written: settings().for_serialize().into_generator() }
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.read.take_definitions(true);
        all.extend(self.written.take_definitions(true));
        all
    }

    fn operation(&mut self, operation: &Operation, problem: &Value) -> Value {
        let tag = tag_of(operation);
        let verb = operation.handler.rsplit("::").next().unwrap_or_default();
        let mut described = json!({
            "operationId": format!("{tag}_{verb}"),
            "tags": [tag],
            "summary": operation.summary.trim_end_matches('.'),
            "description": describe_need(operation),
            "security": security(operation.need),
            "responses": self.responses(operation, problem),
        });
        let parameters = self.parameters(operation);
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(body) = operation.body {
            described["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": schema(&mut self.read, body) } },
            });
        }
        described
    }

    fn parameters(&mut self, operation: &Operation) -> Vec<Value> {
        let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = names
            .zip(&operation.path_ids)
            .map(|(name, &id)| {
                json!({
                    "name": name,
                    "in": "path",
                    "required": true,
                    "description": format!("The {}.", name.replace('_', " ").replace(" id", "'s id")),
                    "schema": schema(&mut self.read, id),
                })
            })
            .collect();
        for (name, property) in operation.query.iter().flat_map(|rules| rules.properties()) {
            let mut property = property.clone();
            forbid_null(&mut property);
            let description = property.as_object_mut().and_then(|property| property.remove("description"));
            // Described more narrowly than the rules of the query string are, because an id of
            // another kind has an answer of its own, and 404 must not tell malformed from foreign.
            match name.as_str() {
                "cursor" => property = self.cursor(operation).unwrap_or(property),
                "project_id" => property = self.read.subschema_for::<ProjectId>().to_value(),
                _ => {}
            }
            parameters.push(json!({ "name": name, "in": "query", "description": description, "schema": property }));
        }
        parameters
    }

    /// A cursor is what the list answers as `next_cursor`.
    fn cursor(&mut self, operation: &Operation) -> Option<Value> {
        let list = schema(&mut self.written, operation.answer.schema);
        let name = list["$ref"].as_str()?.rsplit('/').next()?;
        let mut cursor = self.written.definitions().get(name)?.pointer("/properties/next_cursor")?.clone();
        cursor.as_object_mut()?.remove("description");
        Some(cursor)
    }

    fn responses(&mut self, operation: &Operation, problem: &Value) -> Value {
        let answer = operation.answer;
        let request_id = json!({ "X-Request-Id": header("The request's id; quote it when you ask for help.") });
        let mut headers = request_id.clone();
        if answer.location {
            headers["Location"] = header("The path of what was made.");
        }
        let mut responses = Map::new();
        responses.insert(
            answer.status.to_string(),
            json!({
                "description": answer.description,
                "headers": headers,
                "content": { answer.media_type: { "schema": schema(&mut self.written, answer.schema) } },
            }),
        );
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in errors_of(operation) {
            by_status.entry(status_and_title(code).0.as_u16()).or_default().push(code);
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
                    "content": { answer.media_type: { "schema": schema(&mut self.written, answer.schema) } },
                }),
            );
        }
        responses.into()
    }
}

fn schema(generator: &mut SchemaGenerator, of: SchemaOf) -> Value {
    of(generator).to_value()
}

fn header(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

/// In a query string nothing is null; what is optional is left out.
fn forbid_null(property: &mut Value) {
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

fn security(need: Need) -> Value {
    let scopes: Vec<String> = need.scope().iter().map(ToString::to_string).collect();
    need.kinds().iter().map(|&kind| json!({ scheme_name(kind): scopes })).collect()
}

fn scheme_name(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Session => "session",
        SecretKind::Key => "key",
        SecretKind::Token => "token",
    }
}

fn describe_need(operation: &Operation) -> String {
    let kinds: Vec<&str> = operation.need.kinds().iter().copied().map(scheme_name).collect();
    match operation.need {
        Need::Public => "Needs no credential.".into(),
        Need::Session => "Needs a session.".into(),
        Need::Scoped { scope, or_itself, .. } => {
            let itself = if or_itself { " A credential may always do this to itself." } else { "" };
            format!("Needs a {} with the scope `{scope}`.{itself}", kinds.join(" or a "))
        }
    }
}

/// The errors that follow from what a route reads and asks for, and its own.
fn errors_of(operation: &Operation) -> Vec<Code> {
    let mut codes = vec![
        Code::UriTooLong,
        Code::HeadersTooLarge,
        Code::UnknownParameter,
        Code::Internal,
        Code::Overloaded,
        Code::Timeout,
    ];
    if operation.need != Need::Public {
        codes.extend([
            Code::MalformedRequest,
            Code::MissingCredentials,
            Code::InvalidToken,
            Code::TokenExpired,
            Code::TokenRevoked,
        ]);
        codes.extend([Code::CredentialKindNotAllowed, Code::AuthUnavailable]);
    }
    if operation.path.starts_with("/v1/") {
        codes.push(Code::DatabaseUnavailable);
    }
    if operation.need.scope().is_some() {
        codes.push(Code::InsufficientScope);
    }
    if let Some(rules) = operation.query {
        codes.extend([Code::InvalidParameter, Code::DuplicateParameter]);
        if rules.properties().contains_key("cursor") {
            codes.push(Code::InvalidCursor);
        }
        if rules.properties().contains_key("project_id") {
            codes.extend([Code::ProjectRequired, Code::NotFound]);
        }
    }
    if operation.body.is_some() {
        codes.extend([
            Code::MalformedJson,
            Code::RequestTimeout,
            Code::PayloadTooLarge,
            Code::UnsupportedMediaType,
            Code::ValidationFailed,
        ]);
        if operation.need.scope().is_some() && operation.path_ids.is_empty() {
            codes.extend([Code::ProjectRequired, Code::NotFound]);
        }
    } else {
        codes.push(Code::UnexpectedBody);
    }
    if !operation.path_ids.is_empty() {
        codes.push(Code::NotFound);
    }
    codes.extend(operation.errors);
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The schema of a problem that has one of `codes`.
fn with_codes(problem: &Value, codes: &[Code]) -> Value {
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    json!({ "allOf": [problem, { "properties": { "code": { "enum": codes } } }] })
}

fn problem_response(status: u16, codes: &[Code], schema: &Value) -> Value {
    let titles: Vec<String> = codes.iter().map(|&code| format!("`{code}`: {}.", status_and_title(code).1)).collect();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|&code| {
            let example = json!({
                "type": format!("https://api.cloudapi.dev/docs/errors/{code}"),
                "title": status_and_title(code).1,
                "status": status,
                "detail": "What was wrong with this request, and what to do.",
                "code": code.as_str(),
                "request_id": "req_9c0e1",
            });
            (code.to_string(), json!({ "value": example }))
        })
        .collect();
    let mut response = json!({
        "description": titles.join("\n\n"),
        "headers": { "X-Request-Id": header("The request's id; quote it when you ask for help.") },
        "content": { problem::MEDIA_TYPE: { "schema": schema, "examples": examples } },
    });
    match status {
        401 => response["headers"]["WWW-Authenticate"] = header("How to authenticate (RFC 6750)."),
        503 => response["headers"]["Retry-After"] = header("Seconds to wait before trying again."),
        _ => {}
    }
    response
}
