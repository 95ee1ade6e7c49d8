//! The API's description (OpenAPI 3.1), made from what the route table and the handlers' signatures say.

mod components;
mod errors;
mod events;
pub mod notes;
mod portable;
mod schemas;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

pub use self::errors::errors_of;
use self::{
    components::{Parameters, components},
    errors::common_codes,
    schemas::{NOT_READY, Schemas},
};
use crate::http::{
    asset::{FileRequest, Packed},
    describe::{Answer, AnswerShape, Operation},
    problem::Problem,
    reply::Json,
};

/// The address of the server in examples.
const PUBLIC_URL: &str = "https://api.cloudapi.dev";

/// What the document's description says of its extensions, after the introduction.
const EXTENSIONS: &str = "
**Extensions in this document.** `x-extensible-enum` lists the known values of a member of a response. The member has no
`enum`, because later versions may add values: treat an unknown value like any other text. An `enum`, in requests, is
closed. `x-error-codes` lists all error codes that an operation can return; its description links those that few
operations have. All operations share one error response for each status, which links the page of each of its codes.
";

/// The document, as text and compressed.
pub fn packed(document: &Value) -> Packed {
    Packed::new(format!("{document}\n"))
}

/// 200 with the document.
#[derive(Clone, Debug)]
pub struct OpenApiDocument {
    /// The document.
    pub document: Packed,
    /// The accepted encodings.
    pub request: FileRequest,
}

impl IntoResponse for OpenApiDocument {
    fn into_response(self) -> Response {
        self.document.response("application/json", self.request)
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
    let operations: Vec<&Operation> = operations.collect();
    let codes: BTreeSet<_> = operations.iter().flat_map(|operation| errors_of(operation)).collect();
    let common = common_codes(&operations);
    let (mut schemas, mut parameters) = (Schemas::new(), Parameters::default());
    let problem = schemas.written.subschema_for::<Problem>().to_value();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut tags: Vec<&str> = Vec::new();
    for operation in &operations {
        let tag = tag_of(operation);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        let described = schemas.operation(operation, &common, &mut parameters);
        paths.entry(operation.path).or_default().insert(operation.method.as_str().to_lowercase(), described);
    }
    tags.push(events::TAG);
    let (webhooks, event_schemas) = events::webhooks(&mut schemas);
    let mut components = components(&codes, parameters, &problem);
    if let (Some(not_ready), Some(Value::Object(responses))) =
        (schemas.not_ready(&operations, &problem), components.get_mut("responses"))
    {
        responses.insert(NOT_READY.into(), not_ready);
        responses.insert(events::RECEIVED.into(), events::received());
    }
    let (requests, mut responses) = schemas.definitions();
    responses.extend(event_schemas);
    let (schemas, response_names) = portable::merge(requests, responses);
    components.insert("schemas".into(), schemas.into());
    components.insert(
        "securitySchemes".into(),
        json!({
            "session": security_scheme("`sess_…`: a signed-in person's dashboard backend. It sees every project of its user, with the scopes of the user's role there."),
            "key": security_scheme("`sk_live_…`: a project's servers and CI. It sees its own project."),
            "token": security_scheme("`cap_…`: a service. It sees its own project, with its own scopes."),
        }),
    );
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "CloudAPI",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": format!("{}{EXTENSIONS}", include_str!("introduction.md")),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This server." }],
        "tags": tags.iter().map(|tag| json!({ "name": tag, "description": tag_description(tag) })).collect::<Vec<_>>(),
        "paths": paths,
        "webhooks": webhooks,
        "components": components,
    });
    portable::name_requests(&mut document, &response_names);
    portable::remove_unused(&mut document);
    document
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
        events::TAG => "The types of events: `data.changes` of each, as lists, streams and webhooks carry it.",
        "webhooks" => "Where a project's events are sent, and what came of it.",
        "audit" => "Who did what and when, in a form that shows any change made to it afterwards.",
        "health" => "Whether the server lives and is ready.",
        "docs" => "This document, the guides, and the error codes.",
        _ => "",
    }
}
