//! One call of `/v1`: what is sent, and the curl command that does the same.

use std::fmt::Write as _;

use axum::{
    body::Body,
    extract::Request,
    http::{self, Method, Version, header},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::empty;

/// Call of `/v1`.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    idempotency_key: Option<String>,
    if_match: Option<String>,
    last_event_id: Option<String>,
}

impl Call {
    /// Creates a call without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, idempotency_key: None, if_match: None, last_event_id: None }
    }

    /// GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// POST.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// PATCH.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a query parameter. An empty value is left out.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            let separator = if self.path.contains('?') { '&' } else { '?' };
            let _ = write!(self.path, "{separator}{name}={}", encode(&value));
        }
        self
    }

    /// Sets the JSON body.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets the idempotency key, so that the write is executed once.
    #[must_use]
    pub fn once(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.to_owned()).filter(|key| !key.is_empty());
        self
    }

    /// Sets the state that the item must have. An empty tag is left out.
    #[must_use]
    pub fn if_match(mut self, etag: &str) -> Self {
        self.if_match = Some(etag.to_owned()).filter(|etag| !etag.is_empty());
        self
    }

    /// Resumes a stream after the event with this ID. An empty ID is left out.
    #[must_use]
    pub fn resume_after(mut self, event: &str) -> Self {
        self.last_event_id = Some(event.to_owned()).filter(|event| !event.is_empty());
        self
    }

    /// Method and path, without the query: `GET /v1/keys`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }

    /// The request, without a credential.
    pub(super) fn request(&self) -> Result<Request, http::Error> {
        // HTTP/2 needs no Host.
        let mut request = Request::builder().method(&self.method).uri(&self.path).version(Version::HTTP_2);
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(etag) = &self.if_match {
            request = request.header(header::IF_MATCH, etag);
        }
        if let Some(event) = &self.last_event_id {
            request = request.header("last-event-id", event);
        }
        match &self.body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
            None => request.body(empty()),
        }
    }

    /// The curl command that makes the same call at the server with the URL `base`.
    pub fn curl(&self, base: &str) -> String {
        let mut line = String::from("curl ");
        if self.method != Method::GET && !(self.method == Method::POST && self.body.is_some()) {
            let _ = write!(line, "-X {} ", self.method);
        }
        let _ = write!(
            line,
            "{} \\\n  -H \"Authorization: Bearer $CLOUDAPI_TOKEN\"",
            quote(&format!("{base}{}", self.path))
        );
        if self.idempotency_key.is_some() {
            line.push_str(" \\\n  -H \"Idempotency-Key: $(uuidgen)\"");
        }
        if let Some(etag) = &self.if_match {
            let _ = write!(line, " \\\n  -H {}", quote(&format!("If-Match: {etag}")));
        }
        if let Some(body) = &self.body {
            line.push_str(" \\\n  -H \"Content-Type: application/json\"");
            let _ = write!(line, " \\\n  -d {}", quote(&body.to_string()));
        }
        line
    }
}

/// Percent-encodes one part of a path or a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b',');

/// Quotes a text for a POSIX shell, if it needs quotes.
fn quote(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/:._-,%".contains(&byte));
    if is_plain && !text.is_empty() { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn curl_command_is_the_same_call() {
        let list = Call::get("/v1/keys").query("project_id", "proj_1").query("status", "").query("q", "a b&c");
        assert_eq!(
            list.curl("http://127.0.0.1:8080"),
            "curl 'http://127.0.0.1:8080/v1/keys?project_id=proj_1&q=a%20b%26c' \\\n  -H \"Authorization: Bearer $CLOUDAPI_TOKEN\""
        );
        let create = Call::post("/v1/keys").body(json!({ "name": "it's" })).once("k");
        let line = create.curl("https://api.example.com");
        assert!(line.starts_with("curl https://api.example.com/v1/keys \\\n"), "{line}");
        assert!(line.ends_with(r#"-d '{"name":"it'\''s"}'"#), "{line}");
        assert!(Call::delete("/v1/keys/key_1").curl("").starts_with("curl -X DELETE /v1/keys/key_1"));
    }

    #[test]
    fn control_characters_do_not_reach_the_request_line() {
        let call = Call::get("/v1/keys").query("q", "a\r\nx: y");
        assert_eq!(call.request().unwrap().uri(), "/v1/keys?q=a%0D%0Ax:%20y");
    }
}
