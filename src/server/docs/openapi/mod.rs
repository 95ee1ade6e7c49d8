//! OpenAPI 3.1 document, generated from the route table and the signatures of the handlers.

mod components;
mod composition;
mod errors;
mod events;
pub mod notes;
mod portable;
mod schemas;

use std::{borrow::Cow, collections::BTreeMap};

use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::{
    base::action::Action,
    http::{
        api::Api,
        describe::{ApiResponse, Operation, ResponseHeader, ResponseShape},
        response::{
            Json,
            asset::{AcceptedEncoding, CompressedText},
            problem::Problem,
        },
    },
};
use components::{Parameters, components};
use errors::CodeSets;
pub use errors::errors_of;
use schemas::{NOT_READY, Schemas};

/// URL of the server in examples.
const PUBLIC_URL: &str = "https://api.cloudapi.dev";

/// Description of the document's extensions. It follows the introduction.
const EXTENSIONS: &str = "
**Extensions in this document.** `x-extensible-enum` lists the known values of a response member. Later versions may add
values: accept unknown ones. An `enum`, in requests, is closed. `x-error-codes` of an error response lists the codes that
every operation with this response can return, and `x-error-codes` of an operation its other codes. Together they are all
codes of the operation; its description names the uncommon ones. `/docs/errors/{code}` explains each code.
";

/// Packs the document, plain and compressed.
pub fn packed(document: &Value) -> CompressedText {
    CompressedText::new(format!("{document}\n"))
}

/// Response: 200 with the document.
#[derive(Clone, Debug)]
pub struct OpenApiDocument {
    /// Document.
    pub document: CompressedText,
    /// Accepted encodings.
    pub request: AcceptedEncoding,
}

impl IntoResponse for OpenApiDocument {
    fn into_response(self) -> Response {
        self.document.response("application/json", self.request)
    }
}

impl ApiResponse for OpenApiDocument {
    const SHAPE: ResponseShape =
        ResponseShape { description: "The document.", ..<Json<Self> as ApiResponse>::SHAPE.with(ResponseHeader::ETag) };
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
                "openapi": { "type": "string", "description": "OpenAPI version.", "pattern": "^3\\.1\\." },
                "info": { "type": "object", "description": "API metadata.", "additionalProperties": true },
                "paths": { "type": "object", "description": "Operations.", "additionalProperties": true },
            },
            "additionalProperties": true,
        })
    }
}

/// Generates the document of the routes in `table`.
pub fn describe<S: Clone + Send + Sync + 'static>(table: &Api<S>) -> Value {
    let operations: Vec<&Operation> = table.operations().collect();
    let codes = CodeSets::of(&operations);
    let (mut schemas, mut parameters) = (Schemas::new(), Parameters::default());
    let problem = schemas.response_generator.subschema_for::<Problem>().to_value();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in &operations {
        let described = schemas.operation(operation, &codes, &mut parameters);
        paths.entry(operation.path).or_default().insert(operation.method.as_str().to_lowercase(), described);
    }
    let tags = table.tags().iter().map(|tag| (tag.name, tag.description)).chain([events::TAG]);
    let event_types: Vec<_> =
        Action::events().filter_map(|action| Some((action, table.event_schema(action)?))).collect();
    let (webhooks, event_schemas) = events::webhooks(&event_types, &mut schemas);
    let mut components = components(&codes, parameters, &problem);
    if let (Some(not_ready), Some(Value::Object(responses))) =
        (schemas.not_ready(&operations, &codes, &problem), components.get_mut("responses"))
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
            "session": security_scheme("`sess_…`: a signed-in person's dashboard backend. Access to all projects of its user, with the scopes of the user's role in each."),
            "key": security_scheme("`sk_live_…`: a project's servers and CI. Access to its project."),
            "token": security_scheme("`cap_…`: a service. Access to its project, with its own scopes."),
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
        "tags": tags.map(|(name, description)| json!({ "name": name, "description": description })).collect::<Vec<_>>(),
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
