//! Extractors for handlers: ids and words in the path, the query string, the JSON body.

use std::marker::PhantomData;

use axum::{
    RequestPartsExt,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use schemars::{SchemaGenerator, json_schema};
use serde_json::{Map, Value};

pub use super::body::{EmptyRequest, MAX_BODY};
pub use super::query::Query;
use super::{
    body::{self, read_body},
    json,
    query::unknown_parameter,
};
use crate::{
    base::{
        error::{Code, Error, ItemCode, Result},
        id::{Id, Kind},
        input::{
            schema::{Input, ParsedInput},
            text::{self, BadText, excerpt},
        },
    },
    http::describe::{Argument, BodyShape, Operation},
};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Id in the path. Any other text becomes [`Id::NIL`], which the lookup does not find: the response to a malformed
/// id, an absent object and an object of another project is the same, from the same place in the code.
#[derive(Debug)]
pub struct PathId<K: Kind>(pub Id<K>);

impl<K: Kind, S: Send + Sync> FromRequestParts<S> for PathId<K> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // Extraction fails if the decoded path is not UTF-8. No id is such a text.
        let text = parts.extract::<Path<String>>().await.map(|Path(text)| text).unwrap_or_default();
        Ok(Self(text.parse().unwrap_or(Id::NIL)))
    }
}

impl<K: Kind> Argument for PathId<K> {
    fn describe(operation: &mut Operation) {
        operation.path_ids.push(|generator: &mut SchemaGenerator| generator.subschema_for::<Id<K>>());
    }
}

/// Two ids in the path: of an object, and of another object that belongs to it.
#[derive(Debug)]
pub struct PathIds<K: Kind, L: Kind>(pub Id<K>, pub Id<L>);

impl<K: Kind, L: Kind, S: Send + Sync> FromRequestParts<S> for PathIds<K, L> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let (first, second) =
            parts.extract::<Path<(String, String)>>().await.map(|Path(texts)| texts).unwrap_or_default();
        Ok(Self(first.parse().unwrap_or(Id::NIL), second.parse().unwrap_or(Id::NIL)))
    }
}

impl<K: Kind, L: Kind> Argument for PathIds<K, L> {
    fn describe(operation: &mut Operation) {
        operation.path_ids.push(|generator: &mut SchemaGenerator| generator.subschema_for::<Id<K>>());
        operation.path_ids.push(|generator: &mut SchemaGenerator| generator.subschema_for::<Id<L>>());
    }
}

/// Text from a fixed set of words.
pub trait KnownValue: Copy + Send + 'static {
    /// Noun for the words, with its article: "an error code".
    const NOUN: &'static str;
    /// All words.
    const ALL: &'static [Self];
    /// Page that lists the words, if the OpenAPI document does not.
    const LIST: Option<&'static str> = None;
    /// Returns the word.
    fn as_str(self) -> &'static str;
}

/// Word in the path. Any other text is 404.
#[derive(Debug)]
pub struct PathValue<W>(pub W);

impl<W: KnownValue, S: Send + Sync> FromRequestParts<S> for PathValue<W> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let given = parts.extract::<Path<String>>().await.map(|Path(text)| text).unwrap_or_default();
        let word = W::ALL.iter().copied().find(|word| word.as_str() == given);
        word.map(Self).ok_or_else(|| unknown_value::<W>(&given))
    }
}

impl<W: KnownValue> Argument for PathValue<W> {
    fn describe(operation: &mut Operation) {
        operation.path_ids.push(|_: &mut SchemaGenerator| {
            let words: Vec<&str> = W::ALL.iter().map(|word| word.as_str()).collect();
            match W::LIST {
                // The list is long and grows. One word is an example, without which a client that only knows the
                // document cannot succeed.
                Some(_) => json_schema!({ "type": "string", "examples": words.get(..1) }),
                None => json_schema!({ "type": "string", "enum": words }),
            }
        });
    }
}

fn unknown_value<W: KnownValue>(given: &str) -> Error {
    let hint = match text::nearest(given, W::ALL.iter().map(|word| word.as_str())) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("{} lists the known values", W::LIST.unwrap_or("/openapi.json")),
    };
    Error::new(Code::NotFound, format!("'{}' is not {}; {hint}", excerpt(given), W::NOUN))
}

/// Rejects query parameters on a route that has none.
pub fn reject_unexpected_parameters(operation: &Operation, head: &Parts) -> Result<()> {
    if operation.query.is_none()
        && let Some((name, _)) = text::form_pairs(head.uri.query().unwrap_or_default()).next()
    {
        let name = text::decode_form(name).unwrap_or_else(|_| name.to_owned());
        return Err(unknown_parameter(&name, std::iter::empty()));
    }
    Ok(())
}

/// JSON body. Its bytes are parsed once, strictly, on extraction ([`json`]). The value is then
///
/// - asked for the project ([`JsonBody::project_id`]) before its schema is checked, so that a caller without access
///   does not learn the schema from errors;
/// - hashed if the request has an `Idempotency-Key` ([`JsonBody::canonical_body`]), before its schema is checked,
///   because a retry gets its stored response even if the body would now be invalid;
/// - checked against the schema of `T`, which finds every fault, and moved into a `T` ([`JsonBody::validate`]).
#[derive(Debug)]
pub struct JsonBody<T> {
    input: ParsedInput,
    of: PhantomData<fn() -> T>,
}

impl<T: Input> JsonBody<T> {
    /// Outside of PATCH, null and an omitted member mean the same.
    fn new(input: ParsedInput) -> Self {
        Self { input: T::rules().without_nulls(input), of: PhantomData }
    }

    /// A body without members.
    fn empty() -> Self {
        Self::new(ParsedInput { value: Value::Object(Map::new()), has_bad_text: false })
    }

    /// Returns the project that the body names, before other members are checked. For a body that is not an object or
    /// that misspells the member, returns the validation errors: `project_required` would hide the mistake.
    pub fn project_id(&self) -> Result<Option<&str>> {
        match self.input.value.get("project_id") {
            None | Some(Value::Null) if self.has_misspelled_project_id() => {
                Err(Error::validation(T::rules().faults(&self.input)))
            }
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) if text::check(id).is_ok() => Ok(Some(id)),
            Some(Value::String(_)) => Err(Error::invalid_member(
                "/project_id",
                ItemCode::InvalidCharacters,
                BadText::ControlCharacter.to_string(),
            )),
            Some(_) => Err(Error::invalid_member(
                "/project_id",
                ItemCode::WrongType,
                "must be of type string, such as \"proj_8f2c4\"",
            )),
        }
    }

    /// Returns whether the body is not an object, or has an unknown member with a name similar to `project_id`.
    fn has_misspelled_project_id(&self) -> bool {
        let Value::Object(members) = &self.input.value else { return true };
        let known = || T::rules().properties().keys().map(String::as_str);
        let mut unknown = members.keys().filter(|name| !T::rules().properties().contains_key(*name));
        unknown.any(|name| text::nearest(name, known()) == Some("project_id"))
    }

    /// Canonical body, which identifies a retry of the same write.
    pub fn canonical_body(&self) -> &Value {
        &self.input.value
    }

    /// Returns the body as a `T`, or all of its validation errors. A POST or PATCH with a credential uses
    /// `tx::Tx::begin_idempotent` instead, which recognizes a retry.
    pub fn validate(self) -> Result<T> {
        let faults = T::rules().faults(&self.input);
        if !faults.is_empty() {
            return Err(Error::validation(faults));
        }
        // The value matches the schema, so this fails only where the type is stricter than its schema.
        serde_json::from_value(self.input.value)
            .map_err(|error| Error::invalid_member("", ItemCode::InvalidFormat, error.to_string()))
    }
}

impl<T: Input, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, mut body) = request.into_parts();
        require_plain(&parts.headers)?;
        if media_type(&parts.headers) != JSON {
            // The content type of an empty body does not matter.
            if T::rules().requires_members() || body::has_bytes(&parts, &mut body).await? {
                return Err(Error::new(
                    Code::UnsupportedMediaType,
                    "The body must be JSON; send it with 'Content-Type: application/json'",
                ));
            }
            return Ok(Self::empty());
        }
        let bytes = read_body(&parts, body).await?;
        if bytes.is_empty() && !T::rules().requires_members() {
            return Ok(Self::empty());
        }
        Ok(Self::new(parse_json(&bytes)?))
    }
}

impl<T: Input> Argument for JsonBody<T> {
    fn describe(operation: &mut Operation) {
        operation.body = Some(BodyShape {
            schema: SchemaGenerator::subschema_for::<T>,
            media_types: &[JSON],
            required: T::rules().requires_members(),
        });
    }
}

/// Body of text members, as JSON or as an HTML form. Unknown members are ignored, as OAuth endpoints do (RFC 6749
/// §3.2). The schema of `T` must allow them.
#[derive(Debug)]
pub struct FormOrJson<T>(JsonBody<T>);

impl<T: Input> FormOrJson<T> {
    /// Returns the body as a `T`, or all of its validation errors.
    pub fn validate(self) -> Result<T> {
        self.0.validate()
    }
}

impl<T: Input, S: Send + Sync> FromRequest<S> for FormOrJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        require_plain(&parts.headers)?;
        let is_form = match media_type(&parts.headers).as_str() {
            JSON => false,
            FORM => true,
            _ => {
                return Err(Error::new(
                    Code::UnsupportedMediaType,
                    "The body must be JSON or a form; send it with 'Content-Type: application/json' or 'application/x-www-form-urlencoded'",
                ));
            }
        };
        let bytes = read_body(&parts, body).await?;
        let known = T::rules().properties();
        let mut input = if is_form { parse_form(&bytes, known)? } else { parse_json(&bytes)? };
        if let Value::Object(members) = &mut input.value {
            members.retain(|name, _| known.contains_key(name));
        }
        Ok(Self(JsonBody::new(input)))
    }
}

impl<T: Input> Argument for FormOrJson<T> {
    fn describe(operation: &mut Operation) {
        operation.body =
            Some(BodyShape { schema: SchemaGenerator::subschema_for::<T>, media_types: &[JSON, FORM], required: true });
    }
}

fn parse_json(bytes: &[u8]) -> Result<ParsedInput> {
    json::parse(bytes).map_err(|error| {
        Error::new(Code::MalformedJson, format!("The body is not valid JSON: {error}; fix it and send it again"))
    })
}

/// Parses a form as RFC 6749 §3.2 requires: a parameter without a value counts as omitted, a parameter that is not
/// `known` is ignored, and a known parameter must not be repeated. Extensions define unknown parameters that may be
/// repeated, such as `resource` of RFC 8707.
fn parse_form(bytes: &[u8], known: &Map<String, Value>) -> Result<ParsedInput> {
    let malformed = |detail: String| Error::new(Code::MalformedRequest, detail);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| malformed("The form is not UTF-8; percent-encode each name and value as UTF-8".into()))?;
    let (mut members, mut has_bad_text) = (Map::new(), false);
    for (name, value) in text::form_pairs(text).filter(|(_, value)| !value.is_empty()) {
        let name = text::decode_form(name).unwrap_or_else(|_| name.to_owned());
        if !known.contains_key(&name) {
            continue;
        }
        let value = text::decode_form(value).map_err(|bad| malformed(format!("The form parameter '{name}' {bad}")))?;
        // Known names have no control characters.
        has_bad_text |= text::check(&value).is_err();
        if members.insert(name.clone(), value.into()).is_some() {
            return Err(malformed(format!("The form parameter '{name}' is duplicated; send it once")));
        }
    }
    Ok(ParsedInput { value: members.into(), has_bad_text })
}

fn require_plain(headers: &HeaderMap) -> Result<()> {
    single_header(headers, &header::CONTENT_TYPE)?;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Error::new(
            Code::UnsupportedMediaType,
            "The body has a Content-Encoding; send it uncompressed, without that header",
        ));
    }
    Ok(())
}

/// Returns the media type of the body in lower case, without parameters.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns the value of a header that must not be repeated.
pub fn single_header<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a header::HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => {
            Err(Error::new(Code::MalformedRequest, format!("The '{name}' header is duplicated; send it once")))
        }
        (first, None) => Ok(first),
    }
}
