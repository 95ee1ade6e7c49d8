//! Successful answers: what handlers return.

use std::borrow::Cow;

use axum::{
    Extension,
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::describe::{Answer, AnswerShape};
use crate::base::{
    clock::Timestamp,
    error::Error,
    etag::{EntityTag, Versioned},
    id::{Kind, RequestId},
    page::Page,
};

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
/// About how many headers an answer has.
const HEADERS: usize = 12;

/// 200 with a body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0, [])
    }
}

impl<T: JsonSchema> Answer for Json<T> {
    const SHAPE: AnswerShape = shape::<T>(200, "Done: this is how it is now.");
}

/// 200 with an item and the entity tag of its state.
#[derive(Debug)]
pub struct Tagged<T>(pub T);

impl<T: Serialize + Versioned> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0, [etag(&self.0.etag())])
    }
}

impl<T: JsonSchema> Answer for Tagged<T> {
    const SHAPE: AnswerShape = AnswerShape { etag: true, ..shape::<T>(200, "Done: this is how it is now.") };
}

/// 200 with the answer to a question that changed nothing. No cache may keep it.
#[derive(Debug)]
pub struct Private<T>(pub T);

impl<T: Serialize> IntoResponse for Private<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))])
    }
}

impl<T: JsonSchema> Answer for Private<T> {
    const SHAPE: AnswerShape = AnswerShape { read: true, ..shape::<T>(200, "Done: this is how it is now.") };
}

/// An answer that may be some time behind, and says how far it reaches.
#[derive(Debug)]
pub struct AsOf<T> {
    /// All that was before this is in it.
    pub as_of: Timestamp,
    /// The answer.
    pub answer: T,
}

impl<T: IntoResponse> IntoResponse for AsOf<T> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        if let Ok(as_of) = HeaderValue::try_from(self.as_of.to_string()) {
            response.headers_mut().insert(HeaderName::from_static("usage-as-of"), as_of);
        }
        response
    }
}

impl<T: Answer> Answer for AsOf<T> {
    const SHAPE: AnswerShape = AnswerShape { as_of: true, ..T::SHAPE };
}

/// 201 with what was made and where it is.
#[derive(Debug)]
pub struct Created<T> {
    /// The path of what was made.
    pub location: String,
    /// What was made.
    pub body: T,
}

impl<T: Serialize + Versioned> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        json(StatusCode::CREATED, &self.body, [location(&self.location), etag(&self.body.etag())])
    }
}

impl<T: JsonSchema> Answer for Created<T> {
    const SHAPE: AnswerShape =
        AnswerShape { location: true, etag: true, ..shape::<T>(201, "Made; `Location` says where it is.") };
}

/// 201 with a secret that is shown this once, so no cache may keep the answer.
#[derive(Debug)]
pub struct Issued<T>(pub Created<T>);

impl<T: Serialize + Versioned> IntoResponse for Issued<T> {
    fn into_response(self) -> Response {
        let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        json(StatusCode::CREATED, &self.0.body, [location(&self.0.location), etag(&self.0.body.etag()), no_store])
    }
}

impl<T: JsonSchema> Answer for Issued<T> {
    const SHAPE: AnswerShape = AnswerShape {
        location: true,
        etag: true,
        private: true,
        ..shape::<T>(201, "Made. The secret is shown in this answer only; store it now.")
    };
}

/// 202 with what will be done, and where to see what came of it.
#[derive(Debug)]
pub struct Accepted<T> {
    /// The path to look at.
    pub location: String,
    /// The tag of the item that the request was sent to, or that it made.
    pub etag: EntityTag,
    /// What will be done.
    pub body: T,
}

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        json(StatusCode::ACCEPTED, &self.body, [location(&self.location), etag(&self.etag)])
    }
}

impl<T: JsonSchema> Answer for Accepted<T> {
    const SHAPE: AnswerShape = AnswerShape {
        location: true,
        etag: true,
        ..shape::<T>(202, "It will be done; `Location` says where to see what came of it.")
    };
}

/// 202 as [`Accepted`]; or, to a request that only asked what would happen, 200 with that.
#[derive(Debug)]
pub enum Submitted<T, W> {
    /// It will be done.
    Accepted(Accepted<T>),
    /// It would be done, and nothing was changed.
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

impl<T: JsonSchema, W: JsonSchema> Answer for Submitted<T, W> {
    const SHAPE: AnswerShape = AnswerShape {
        dry_run: Some((200, "With `dry_run`: what would happen. Nothing was changed.", |generator| {
            generator.subschema_for::<W>()
        })),
        ..<Accepted<T> as Answer>::SHAPE
    };
}

/// 200 with one page of a list.
#[derive(Debug, Serialize)]
pub struct List<T> {
    data: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    request_id: RequestId,
}

impl<T> List<T> {
    /// The page as an answer to the request `request_id`.
    pub fn new<K: Kind>(page: Page<T, K>, request_id: RequestId) -> Self {
        Self { data: page.items, next_cursor: page.next.map(|id| id.to_string()), request_id }
    }
}

impl<T> List<T> {
    /// A page of items that have no ids.
    pub fn of(data: Vec<T>, next_cursor: Option<String>, request_id: RequestId) -> Self {
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
        let mut next_cursor = id_within(generator, &items).unwrap_or_else(|| json_schema!({ "type": "string" }));
        next_cursor.insert(
            "description".into(),
            "There exactly when more may follow: send it as `cursor` to get the next page.".into(),
        );
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

/// The schema of the member `id` of what `reference` refers to: a cursor is the id of the last item.
fn id_within(generator: &SchemaGenerator, reference: &Schema) -> Option<Schema> {
    let name = reference.get("$ref")?.as_str()?.rsplit('/').next()?;
    generator.definitions().get(name)?.pointer("/properties/id")?.clone().try_into().ok()
}

impl<T: JsonSchema> Answer for List<T> {
    const SHAPE: AnswerShape = shape::<Self>(200, "One page, with `next_cursor` exactly when more may follow.");
}

/// Says of an answer that it goes on until somebody ends it.
#[derive(Clone, Copy, Debug)]
pub struct Lasting;

/// 200 with server-sent events, for as long as both sides like (the HTML standard).
#[derive(Debug)]
pub struct EventStream(pub Body);

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            // nginx would keep events until it has a page full of them.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        (headers, Extension(Lasting), self.0).into_response()
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
            "description": "Each event has its `id`, its type as `event`, and itself in one line of `data`. The last one may be an `error`, whose `data` is a problem that says why the stream ends.",
        })
    }
}

impl Answer for EventStream {
    const SHAPE: AnswerShape =
        AnswerShape { media_types: &[EVENT_STREAM], ..shape::<Self>(200, "The events, as they happen.") };
}

const fn shape<T: JsonSchema>(status: u16, description: &'static str) -> AnswerShape {
    AnswerShape {
        status,
        description,
        media_types: &[JSON],
        schema: |generator| generator.subschema_for::<T>(),
        location: false,
        others: &[],
        dry_run: None,
        etag: false,
        once: false,
        private: false,
        read: false,
        as_of: false,
    }
}

fn location(path: &str) -> (HeaderName, HeaderValue) {
    // Paths are made of our own words and ids.
    (header::LOCATION, HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/")))
}

fn etag(tag: &EntityTag) -> (HeaderName, HeaderValue) {
    // Tags are made of our own numbers.
    (header::ETAG, HeaderValue::from_str(&tag.to_string()).unwrap_or(HeaderValue::from_static("\"\"")))
}

fn json<const N: usize>(
    status: StatusCode,
    body: &impl Serialize,
    headers: [(HeaderName, HeaderValue); N],
) -> Response {
    match serde_json::to_vec(body) {
        Ok(mut bytes) => {
            // A terminal's prompt then begins on a line of its own.
            bytes.push(b'\n');
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            let all = response.headers_mut();
            // With those that the layers will add, in one go.
            all.reserve(HEADERS);
            all.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            all.extend(headers);
            response
        }
        Err(error) => Error::internal(error).into_response(),
    }
}
