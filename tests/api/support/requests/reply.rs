//! A response with the assertions that tests need.

use std::ops::Index;

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

use crate::support::app::PUBLIC_URL;

/// A complete response.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    json: Value,
}

impl Reply {
    pub async fn read(response: Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        if headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            // An event stream has no end.
            return Self::of_head(&response);
        }
        let body = response.bytes().await.unwrap().to_vec();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Self { status, headers, body, json }
    }

    /// A response from a service in this process.
    pub fn from_parts(head: &axum::http::response::Parts, body: Vec<u8>) -> Self {
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Self { status: head.status.as_u16(), headers: head.headers.clone(), body, json }
    }

    /// A response without its body.
    pub fn of_head(response: &Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: Vec::new(), json: Value::Null }
    }

    /// The body as JSON. Null if it is not JSON.
    pub fn json(&self) -> &Value {
        &self.json
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts the status and returns the body.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status.as_u16(), "{}", String::from_utf8_lossy(&self.body));
        self.json
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        self.expect(StatusCode::OK)
    }

    #[track_caller]
    pub fn created(self) -> Value {
        self.expect(StatusCode::CREATED)
    }

    #[track_caller]
    pub fn accepted(self) -> Value {
        self.expect(StatusCode::ACCEPTED)
    }

    /// Asserts that the response is this problem, and returns it.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.json["code"].as_str()), (status, Some(code)), "{}", self.json);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["type"], format!("{PUBLIC_URL}/docs/errors/{code}"));
        assert_eq!(self.json["request_id"].as_str(), self.header("x-request-id"));
        let detail = self.json["detail"].as_str().unwrap();
        assert!(detail.contains(';'), "detail does not say what to do next: {detail}");
        self.json
    }

    /// The pointer and code of the only invalid member of a body.
    #[track_caller]
    pub fn invalid_member(self) -> (String, String) {
        let problem = self.problem(422, "validation_failed");
        let errors = problem["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{problem}");
        let text = |name: &str| errors[0][name].as_str().unwrap().to_owned();
        (text("pointer"), text("code"))
    }
}

impl Index<&str> for Reply {
    type Output = Value;
    #[track_caller]
    fn index(&self, name: &str) -> &Value {
        &self.json[name]
    }
}
