//! Successful responses of handlers. Errors are in [`problem`], compressed files and pages in [`asset`] and [`html`].

pub mod asset;
pub mod csv;
pub mod html;
pub mod problem;

use std::borrow::Cow;

use axum::{
    Extension,
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::describe::{ApiResponse, RequestEffect, ResponseHeader, ResponseHeaders, ResponseShape, Secrecy};
use crate::base::{
    error::Error,
    etag::{EntityTag, Versioned},
    id::{Kind, RequestId},
    input::page::Page,
    runtime::clock::Timestamp,
};

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
/// Approximate number of headers of a response.
const HEADER_CAPACITY: usize = 12;

/// Response: 200 with a body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0, [])
    }
}

impl<T: JsonSchema> ApiResponse for Json<T> {
    const SHAPE: ResponseShape = shape::<T>(200, "Success.");
}

/// Response: 200 with an item and the entity tag of its state.
#[derive(Debug)]
pub struct WithEtag<T>(pub T);

impl<T: Serialize + Versioned> IntoResponse for WithEtag<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0, [etag(&self.0.etag())])
    }
}

impl<T: JsonSchema> ApiResponse for WithEtag<T> {
    const SHAPE: ResponseShape = shape::<T>(200, "Success.").with(ResponseHeader::ETag);
}

/// Response: 200 with the result of a POST that changes nothing. Caches must not store it.
#[derive(Debug)]
pub struct NoStore<T>(pub T);

impl<T: Serialize> IntoResponse for NoStore<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))])
    }
}

impl<T: JsonSchema> ApiResponse for NoStore<T> {
    const SHAPE: ResponseShape = ResponseShape { effect: RequestEffect::None, ..shape::<T>(200, "Success.") };
}

/// Response with data that may lag behind, and the time up to which it is complete.
#[derive(Debug)]
pub struct WithAsOf<T> {
    /// Time up to which the data is complete.
    pub as_of: Timestamp,
    /// Response.
    pub response: T,
}

impl<T: IntoResponse> IntoResponse for WithAsOf<T> {
    fn into_response(self) -> Response {
        let mut response = self.response.into_response();
        if let Ok(as_of) = HeaderValue::try_from(self.as_of.to_string()) {
            response.headers_mut().insert(HeaderName::from_static("usage-as-of"), as_of);
        }
        response
    }
}

impl<T: ApiResponse> ApiResponse for WithAsOf<T> {
    const SHAPE: ResponseShape = T::SHAPE.with(ResponseHeader::UsageAsOf);
}

/// Response: 201 with the created object and its path.
#[derive(Debug)]
pub struct Created<T> {
    /// Path of the created object.
    pub location: String,
    /// Created object.
    pub body: T,
}

impl<T: Serialize + Versioned> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        json(StatusCode::CREATED, &self.body, [location(&self.location), etag(&self.body.etag())])
    }
}

impl<T: JsonSchema> ApiResponse for Created<T> {
    const SHAPE: ResponseShape =
        shape::<T>(201, "Created; `Location` has its path.").with(ResponseHeader::Location).with(ResponseHeader::ETag);
}

/// Response: 201 with a secret that is shown only once. Caches must not store the response.
#[derive(Debug)]
pub struct Issued<T>(pub Created<T>);

impl<T: Serialize + Versioned> IntoResponse for Issued<T> {
    fn into_response(self) -> Response {
        let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        json(StatusCode::CREATED, &self.0.body, [location(&self.0.location), etag(&self.0.body.etag()), no_store])
    }
}

impl<T: JsonSchema> ApiResponse for Issued<T> {
    const SHAPE: ResponseShape = ResponseShape {
        secrecy: Secrecy::Secret,
        ..shape::<T>(201, "Created. Store the secret: it is shown only once.")
            .with(ResponseHeader::Location)
            .with(ResponseHeader::ETag)
    };
}

/// Response: 202 with the accepted work and the path at which to follow it.
#[derive(Debug)]
pub struct Accepted<T> {
    /// Path at which to follow the work.
    pub location: String,
    /// Entity tag of the item that the request concerns or has created.
    pub etag: EntityTag,
    /// Accepted work.
    pub body: T,
}

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        json(StatusCode::ACCEPTED, &self.body, [location(&self.location), etag(&self.etag)])
    }
}

impl<T: JsonSchema> ApiResponse for Accepted<T> {
    const SHAPE: ResponseShape = shape::<T>(202, "Accepted; follow the progress at `Location`.")
        .with(ResponseHeader::Location)
        .with(ResponseHeader::ETag);
}

/// Response: [`Accepted`], or 200 with the plan of a dry run.
#[derive(Debug)]
pub enum Submitted<T, W> {
    /// Accepted work.
    Accepted(Accepted<T>),
    /// Plan of a dry run, which has changed nothing.
    DryRun(Json<W>),
}

impl<T: Serialize, W: Serialize> IntoResponse for Submitted<T, W> {
    fn into_response(self) -> Response {
        match self {
            Self::Accepted(accepted) => accepted.into_response(),
            Self::DryRun(plan) => plan.into_response(),
        }
    }
}

impl<T: JsonSchema, W: JsonSchema> ApiResponse for Submitted<T, W> {
    const SHAPE: ResponseShape = ResponseShape {
        dry_run: Some((200, "With `dry_run`: the plan. Nothing was changed.", |generator| {
            generator.subschema_for::<W>()
        })),
        ..<Accepted<T> as ApiResponse>::SHAPE
    };
}

/// Response: 200 with one page of a list.
#[derive(Debug, Serialize)]
pub struct List<T> {
    data: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    request_id: RequestId,
}

impl<T> List<T> {
    /// Creates the response to the request `request_id` from a page.
    pub fn new<K: Kind>(page: Page<T, K>, request_id: RequestId) -> Self {
        Self { data: page.items, next_cursor: page.next.map(|id| id.to_string()), request_id }
    }
}

impl<T> List<T> {
    /// Creates a page of items that have no ids.
    pub fn from_items(data: Vec<T>, next_cursor: Option<String>, request_id: RequestId) -> Self {
        Self { data, next_cursor, request_id }
    }
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self, [])
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}List", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let mut next_cursor = id_schema_of(generator, &items).unwrap_or_else(|| json_schema!({ "type": "string" }));
        next_cursor.insert("description".into(), "Present if more items may follow: send it as `cursor`.".into());
        json_schema!({
            "type": "object",
            "description": "One page of a list.",
            "required": ["data", "request_id"],
            "properties": {
                "data": { "type": "array", "items": items, "maxItems": 100 },
                "next_cursor": next_cursor,
                "request_id": generator.subschema_for::<RequestId>(),
            },
        })
    }
}

/// Returns the schema of the member `id` of the referenced schema: a cursor is the id of the last item.
fn id_schema_of(generator: &SchemaGenerator, reference: &Schema) -> Option<Schema> {
    let name = reference.get("$ref")?.as_str()?.rsplit('/').next()?;
    generator.definitions().get(name)?.pointer("/properties/id")?.clone().try_into().ok()
}

impl<T: JsonSchema> ApiResponse for List<T> {
    const SHAPE: ResponseShape = shape::<Self>(200, "One page of the list.");
}

/// Response extension: the body continues until the client or the server ends it.
#[derive(Clone, Copy, Debug)]
pub struct Streaming;

/// Response: 200 with server-sent events (HTML standard), until the client or the server ends it.
#[derive(Debug)]
pub struct EventStream(pub Body);

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            // Without this header, nginx buffers events until its buffer is full.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        (headers, Extension(Streaming), self.0).into_response()
    }
}

impl JsonSchema for EventStream {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "EventStream".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Each message has the `id` of the event, its type as `event`, and the event as one line of `data`. The last may be an `error`: its `data` is a problem with the reason.",
        })
    }
}

impl ApiResponse for EventStream {
    const SHAPE: ResponseShape =
        ResponseShape { media_types: &[EVENT_STREAM], ..shape::<Self>(200, "The events, as they happen.") };
}

const fn shape<T: JsonSchema>(status: u16, description: &'static str) -> ResponseShape {
    ResponseShape {
        status,
        description,
        media_types: &[JSON],
        schema: |generator| generator.subschema_for::<T>(),
        headers: ResponseHeaders::NONE,
        others: &[],
        dry_run: None,
        effect: RequestEffect::OfMethod,
        secrecy: Secrecy::Open,
    }
}

fn location(path: &str) -> (HeaderName, HeaderValue) {
    // Paths consist of fixed words and ids, which are valid in a header.
    (header::LOCATION, HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/")))
}

fn etag(tag: &EntityTag) -> (HeaderName, HeaderValue) {
    // Tags consist of numbers, which are valid in a header.
    (header::ETAG, HeaderValue::from_str(&tag.to_string()).unwrap_or(HeaderValue::from_static("\"\"")))
}

fn json<const N: usize>(
    status: StatusCode,
    body: &impl Serialize,
    headers: [(HeaderName, HeaderValue); N],
) -> Response {
    match serde_json::to_vec(body) {
        Ok(mut bytes) => {
            // With the newline, a terminal's prompt begins on a new line.
            bytes.push(b'\n');
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            let all = response.headers_mut();
            // One allocation, including the headers that the layers add.
            all.reserve(HEADER_CAPACITY);
            all.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            all.extend(headers);
            response
        }
        Err(error) => Error::internal(error).into_response(),
    }
}
