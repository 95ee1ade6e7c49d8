//! Index of the search box: guides, operations and errors. `static/search.js` searches it in the browser.

use std::{borrow::Cow, io::Read};

use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::guides;
use crate::{
    base::error::Code,
    http::{
        catalog::entry,
        describe::{ApiResponse, ResponseHeader, ResponseShape},
        response::{
            Json,
            asset::{AcceptedEncoding, CompressedText},
            html::with_page_headers,
        },
    },
};

/// 200 with the search index.
#[derive(Debug)]
pub struct SearchIndex {
    /// The index.
    pub index: CompressedText,
    /// The accepted encodings.
    pub request: AcceptedEncoding,
}

impl IntoResponse for SearchIndex {
    fn into_response(self) -> Response {
        with_page_headers(self.index.response("application/json", self.request))
    }
}

impl ApiResponse for SearchIndex {
    const SHAPE: ResponseShape =
        ResponseShape { description: "The index.", ..<Json<Self> as ApiResponse>::SHAPE.with(ResponseHeader::ETag) };
}

impl JsonSchema for SearchIndex {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SearchIndex".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": true })
    }
}

/// The index of the guides, of the operations in `description` (an OpenAPI document), and of the errors.
pub fn packed(description: &Value) -> CompressedText {
    let mut guides = String::new();
    if let Err(error) = GzDecoder::new(guides::SEARCH_INDEX).read_to_string(&mut guides) {
        tracing::error!(%error, "search index of the guides failed to decompress");
        guides = "[]".to_owned();
    }
    let (operations, errors) = (operations(description), errors());
    CompressedText::new(format!("{{\"guides\":{guides},\"operations\":{operations},\"errors\":{errors}}}\n"))
}

fn operations(description: &Value) -> Value {
    let paths = description.get("paths").and_then(Value::as_object).into_iter().flatten();
    let operations = paths.flat_map(|(path, methods)| {
        methods.as_object().into_iter().flatten().filter_map(move |(method, operation)| {
            let id = operation.get("operationId")?.as_str()?;
            let tag = operation.pointer("/tags/0")?.as_str()?;
            Some(json!({
                // Deep link of Swagger UI.
                "url": format!("/docs#/{tag}/{id}"),
                "method": method.to_uppercase(),
                "path": path,
                "summary": operation.get("summary")?,
                "tag": tag,
            }))
        })
    });
    operations.collect()
}

fn errors() -> Value {
    let error = |&code: &Code| {
        let entry = entry(code);
        json!({
            "url": format!("/docs/errors/{code}"),
            "code": code.as_str(),
            "status": entry.status.as_u16(),
            "title": entry.title,
        })
    };
    Code::ALL.iter().map(error).collect()
}
