//! Problem details (RFC 9457): converts an [`Error`] into a response.
//!
//! A handler's error becomes an empty response with the error as an extension. The outermost layer, which knows the
//! request id, writes the body and the log line once.

use std::{borrow::Cow, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::{
    base::{
        error::{self, Code, Error, Item, ItemLocation},
        id::RequestId,
    },
    http::catalog::{Entry, entry},
};

/// Media type of every error response.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Response extension that carries the error.
#[derive(Clone, Debug)]
pub struct ResponseError(pub Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = entry(self.code()).status;
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = challenge(&self) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        let retry_after = match self.retry_after_seconds() {
            None if status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            known => known,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(ResponseError(Arc::new(self)));
        response
    }
}

/// `WWW-Authenticate` challenge of an error (RFC 6750 §3).
fn challenge(error: &Error) -> Option<HeaderValue> {
    let value = match error.code() {
        Code::MissingCredentials | Code::InvalidCredentials => "Bearer realm=\"cloudapi\"".to_owned(),
        Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked => {
            format!("Bearer realm=\"cloudapi\", error=\"invalid_token\", error_description=\"{}\"", error.code())
        }
        Code::InsufficientScope => match error.needed_scope() {
            Some(scope) => format!("Bearer realm=\"cloudapi\", error=\"insufficient_scope\", scope=\"{scope}\""),
            None => "Bearer realm=\"cloudapi\", error=\"insufficient_scope\"".to_owned(),
        },
        _ => return None,
    };
    HeaderValue::from_str(&value).ok()
}

/// Body of every error response (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct Problem {
    /// URL of the page that explains the error code.
    #[serde(rename = "type")]
    #[schemars(url)]
    pub type_: String,
    /// Short name of the error, for people.
    pub title: String,
    /// HTTP status code.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// Error code, for programs.
    #[schemars(with = "ProblemCode")]
    pub code: String,
    /// Request id. Include it when you ask for help.
    pub request_id: RequestId,
    /// Invalid members or parameters, each with its location.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub errors: Vec<ProblemItem>,
}

/// Describes codes as enums, so that generated clients can branch on them with type checking.
macro_rules! described_codes {
    ($($name:ident = $codes:ty, $description:literal;)*) => {$(
        struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let words: Vec<&str> = <$codes>::ALL.iter().map(|code| code.as_str()).collect();
                json_schema!({ "type": "string", "description": $description, "enum": words })
            }
        }
    )*};
}

described_codes! {
    ProblemCode = Code, "Error code. New codes can be added; treat an unknown code by its status.";
    ItemCode = error::ItemCode, "Code of an invalid member or parameter. New codes can be added.";
}

/// Invalid member of the body, at `pointer`, or invalid query parameter `parameter`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProblemItem {
    /// JSON Pointer (RFC 6901) into the body, as a URI fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String")]
    pub pointer: Option<String>,
    /// Name of the query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String")]
    pub parameter: Option<String>,
    /// What is wrong, for programs.
    #[schemars(with = "ItemCode")]
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: String,
}

impl Problem {
    /// Converts `error` to its public form.
    pub fn new(error: &Error, request_id: RequestId, public_url: &str) -> Self {
        let Entry { status, title, .. } = entry(error.code());
        Self {
            type_: format!("{public_url}/docs/errors/{}", error.code()),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: error.detail().to_owned(),
            code: error.code().to_string(),
            request_id,
            errors: error.items().iter().map(ProblemItem::new).collect(),
        }
    }
}

impl ProblemItem {
    fn new(item: &Item) -> Self {
        let (pointer, parameter) = match &item.location {
            ItemLocation::Body(pointer) => (Some(format!("#{pointer}")), None),
            ItemLocation::Parameter(name) => (None, Some(name.clone())),
        };
        Self { pointer, parameter, code: item.code.as_str(), detail: item.detail.clone() }
    }
}

/// Writes the body of a response that carries a [`ResponseError`]. Does not change other responses.
pub fn render(response: &mut Response, request_id: RequestId, public_url: &str) {
    let Some(ResponseError(error)) = response.extensions().get::<ResponseError>().cloned() else { return };
    let mut body = serde_json::to_vec(&Problem::new(&error, request_id, public_url)).unwrap_or_default();
    body.push(b'\n');
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    // A layer may have set the length of the empty body.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
}
