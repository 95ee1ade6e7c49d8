//! The API's description (OpenAPI 3.1), made from what the route table and the handlers' signatures say.

#![allow(clippy::indexing_slicing, reason = "what is indexed is an object that the line above it made")]

use std::collections::BTreeMap;

use schemars::{
    SchemaGenerator,
    transform::{RecursiveTransform, Transform},
};
use serde_json::{Map, Value, json};

use crate::{
    base::{
        error::Code,
        id::{Kind, Request, RequestId},
        need::{Itself, Need},
        schema,
        secret::SecretKind,
    },
    http::{
        catalogue::{self, entry},
        describe::{Operation, SchemaOf},
        problem::{self, Problem},
    },
};

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
    match operation.handler.split("::").nth(1) {
        // This description is served by the table itself.
        Some("routes") | None => "docs",
        Some(slice) => slice,
    }
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
        "docs" => "This description, for programs and for people, and what each error means.",
        _ => "",
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
            schema::settings().with(|settings| {
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
            let content = json!({ "schema": schema_of(&mut self.read, body.schema) });
            let content: Map<String, Value> =
                body.media_types.iter().map(|&media_type| (media_type.to_owned(), content.clone())).collect();
            described["requestBody"] = json!({ "required": true, "content": content });
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
                    "schema": schema_of(&mut self.read, id),
                })
            })
            .collect();
        if operation.conditional {
            parameters.push(json!({
                "name": "If-Match",
                "in": "header",
                "description": "The `ETag` of the state you mean to change; when it has changed since, the answer is 412.",
                "schema": { "type": "string" },
            }));
        }
        for (name, property) in operation.query.iter().flat_map(|rules| rules.properties()) {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|property| property.remove("description"));
            forbid_null(&mut property);
            // The parameter's own says more than that of its type.
            property.as_object_mut().and_then(|property| property.remove("description"));
            parameters.push(json!({ "name": name, "in": "query", "description": description, "schema": property }));
        }
        parameters
    }

    fn responses(&mut self, operation: &Operation, problem: &Value) -> Value {
        let answer = operation.answer;
        let mut headers = json!({ "X-Request-Id": request_id_header() });
        if answer.location {
            headers["Location"] = header("The path of what was made.");
        }
        if answer.etag {
            headers["ETag"] = header("The entity tag of this state; send it as `If-Match` to change no other.");
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
        for (status, description) in answer.others {
            let headers = json!({ "X-Request-Id": request_id_header() });
            responses.insert(status.to_string(), json!({ "description": description, "headers": headers }));
        }
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in errors_of(operation) {
            by_status.entry(entry(code).status.as_u16()).or_default().push(code);
        }
        for (status, codes) in by_status {
            responses.insert(status.to_string(), problem_response(status, &codes, problem));
        }
        if operation.path == "/readyz" {
            // The one 503 that is no problem document: the same body, with what is wrong in it.
            responses.insert(
                "503".into(),
                json!({
                    "description": "Not ready; send requests elsewhere.",
                    "content": content,
                }),
            );
        }
        responses.into()
    }
}

fn schema_of(generator: &mut SchemaGenerator, of: SchemaOf) -> Value {
    of(generator).to_value()
}

fn request_id_header() -> Value {
    header("The request's id; quote it when you ask for help.")
}

fn header(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

/// In a query string nothing is null; what is optional is left out.
fn forbid_null(property: &mut Value) {
    let drop_null = |schema: &mut schemars::Schema| {
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
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            if let [Value::Object(only)] = choices.as_mut_slice() {
                let only = std::mem::take(only);
                schema.remove("anyOf");
                only.into_iter().for_each(|(name, value)| drop(schema.insert(name, value)));
            }
        }
    };
    if let Ok(schema) = <&mut schemars::Schema>::try_from(&mut *property) {
        RecursiveTransform(drop_null).transform(schema);
    }
    as_choice(property);
}

/// Writes a choice between words as one list, of which tools make something to choose from.
fn as_choice(property: &mut Value) {
    let words: Option<Vec<Value>> = property["oneOf"]
        .as_array()
        .and_then(|choices| choices.iter().map(|choice| choice.get("const").cloned()).collect());
    if let (Some(words), Some(members)) = (words, property.as_object_mut()) {
        members.remove("oneOf");
        members.insert("type".into(), "string".into());
        members.insert("enum".into(), words.into());
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
        SecretKind::Token | SecretKind::Invitation => "token",
    }
}

fn describe_need(operation: &Operation) -> String {
    let kinds: Vec<&str> = operation.need.kinds().iter().copied().map(scheme_name).collect();
    match operation.need {
        Need::Public => "Needs no credential.".into(),
        Need::SignIn => "Needs no credential. An address that tries too often has to wait.".into(),
        Need::Session => "Needs a session.".into(),
        Need::Scoped { owner: true, .. } => "Needs a session of one of the project's owners.".into(),
        Need::Scoped { scope, itself, .. } => match itself {
            Itself::AsOthers => format!("Needs a {} with the scope `{scope}`.", kinds.join(" or a ")),
            Itself::WithoutScope => format!(
                "Needs a {} with the scope `{scope}`. A credential may always do this to itself.",
                kinds.join(" or a ")
            ),
            Itself::KeyOnlyItself => {
                format!("Needs a session with the scope `{scope}`, or the key itself, which needs no scope.")
            }
        },
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
    if operation.need != Need::Public {
        codes.push(Code::RateLimited);
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
    if operation.conditional {
        codes.push(Code::PreconditionFailed);
    }
    let keys_and_tokens = [SecretKind::Key, SecretKind::Token];
    if operation.need.kinds().iter().any(|kind| keys_and_tokens.contains(kind)) {
        codes.extend([Code::ProjectSuspended, Code::ProjectArchived, Code::IpNotAllowed]);
    }
    codes.extend(operation.errors);
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn problem_response(status: u16, codes: &[Code], schema: &Value) -> Value {
    let meanings: Vec<String> =
        codes.iter().map(|&code| format!("[`{code}`](/docs/errors/{code}): {}", entry(code).meaning)).collect();
    let request_id: RequestId = Request::EXAMPLE.parse().unwrap_or_default();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|&code| {
            let problem = Problem::new(&catalogue::example(code), request_id, "https://api.cloudapi.dev");
            (code.to_string(), json!({ "summary": entry(code).title, "value": problem }))
        })
        .collect();
    let mut response = json!({
        "description": meanings.join("\n\n"),
        "headers": { "X-Request-Id": request_id_header() },
        "content": { problem::MEDIA_TYPE: { "schema": schema, "examples": examples } },
    });
    match status {
        401 => response["headers"]["WWW-Authenticate"] = header("How to authenticate (RFC 6750)."),
        429 => response["headers"]["Retry-After"] = header("Seconds to wait before trying again."),
        503 => response["headers"]["Retry-After"] = header("Seconds to wait before trying again."),
        _ => {}
    }
    response
}
