//! The API's description (OpenAPI 3.1), made from what the route table and the handlers' signatures say.

mod errors;
mod events;
pub mod notes;
mod schemas;

use std::{borrow::Cow, collections::BTreeMap};

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use self::schemas::Schemas;
use crate::base::etag::EntityTag;
use crate::http::{
    describe::{Answer, AnswerShape, Operation},
    problem::Problem,
    reply::Json,
};

/// The document, written once: it is long, and the same for all.
#[derive(Clone, Debug)]
pub struct OpenApiDocument {
    text: Bytes,
    etag: String,
}

impl OpenApiDocument {
    /// The document as it is sent.
    pub fn new(description: &Value) -> Self {
        Self { text: format!("{description}\n").into(), etag: EntityTag::of(description, &[]).to_string() }
    }
}

impl IntoResponse for OpenApiDocument {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json"), (header::ETAG, &self.etag)], self.text).into_response()
    }
}

impl Answer for OpenApiDocument {
    const SHAPE: AnswerShape =
        AnswerShape { description: "The description.", etag: true, ..<Json<Self> as Answer>::SHAPE };
}

impl JsonSchema for OpenApiDocument {
    fn schema_name() -> Cow<'static, str> {
        "OpenApiDocument".into()
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
    let webhooks = events::webhooks(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "CloudAPI",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": include_str!("introduction.md"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This server." }],
        "tags": tags.iter().map(|tag| json!({ "name": tag, "description": tag_description(tag) })).collect::<Vec<_>>(),
        "paths": paths,
        "webhooks": webhooks,
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
        // Three things of one slice.
        Some("resources") => match operation.handler.split("::").nth(2) {
            Some("operations") => "operations",
            Some("providers") => "providers",
            _ => "resources",
        },
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
        "resources" => "What there is at cloud providers: networks, volumes and instances, in one shape.",
        "operations" => "What is being done to resources, and what came of it.",
        "providers" => "Where resources can be, what each provider can do, and what a spec may hold.",
        "events" => "What happens in a project, in order, to be listed or followed.",
        "webhooks" => "Where a project's events are sent, and what came of it.",
        "audit" => "Who did what and when, in a form that shows any change made to it afterwards.",
        "health" => "Whether the server lives and is ready.",
        "docs" => "This description, for programs and for people, and what each error means.",
        _ => "",
    }
}
