//! Callers of the server as types, so that a test shows who sends which request.

use std::time::Duration;

use cloudapi::base::id::UserId;
use reqwest::{Method, RequestBuilder, header};
use serde_json::{Value, json};

use crate::support::{app::TestApp, contract, leak_detector::LeakDetector, reply::Reply, stream::EventStream};

/// Any caller that can send a request.
pub trait Identity {
    /// The server.
    fn app(&self) -> &TestApp;
    /// The secret, if any.
    fn secret(&self) -> Option<&str>;

    /// A request to extend and send.
    fn request(&self, method: &str, path: &str) -> TestRequest {
        let app = self.app();
        let method: Method = method.parse().unwrap();
        let mut builder = app.http.request(method.clone(), format!("{}{path}", app.url));
        if let Some(secret) = self.secret() {
            app.leak_detector.record_secrets(&json!(secret));
            builder = builder.bearer_auth(secret);
        }
        TestRequest {
            method,
            path: path.to_owned(),
            builder,
            json: Value::Null,
            leak_detector: app.leak_detector.clone(),
        }
    }

    async fn get(&self, path: &str) -> Reply {
        self.request("GET", path).send().await
    }
    /// Follows the events of this credential's own project from now on.
    async fn open_stream(&self) -> EventStream {
        self.request("GET", "/v1/events/stream").open().await
    }
    /// Continues after an event.
    async fn open_stream_after(&self, id: &str) -> EventStream {
        self.request("GET", "/v1/events/stream").header("last-event-id", id).open().await
    }
    async fn post(&self, path: &str, body: Value) -> Reply {
        self.request("POST", path).json(&body).send().await
    }
    /// Sends a POST without a body.
    async fn post_empty(&self, path: &str) -> Reply {
        self.request("POST", path).send().await
    }
    async fn patch(&self, path: &str, body: Value) -> Reply {
        self.request("PATCH", path).json(&body).send().await
    }
    async fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path).send().await
    }
}

/// A request that was not sent yet.
pub struct TestRequest {
    method: Method,
    path: String,
    builder: RequestBuilder,
    json: Value,
    leak_detector: LeakDetector,
}

impl TestRequest {
    pub fn json(mut self, body: &Value) -> Self {
        self.json = body.clone();
        self.header(header::CONTENT_TYPE.as_str(), "application/json").body(serde_json::to_vec(body).unwrap())
    }
    pub fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.builder = self.builder.body(body);
        self
    }
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }
    /// Sends the request and reads the event stream in its response.
    pub async fn open(self) -> EventStream {
        // The client's timeout is for responses that end. Readers of a stream limit their waits themselves.
        let builder = self.builder.timeout(Duration::from_secs(3600));
        EventStream::new(builder.send().await.unwrap(), &self.path).await
    }
    /// Sends the request and checks the response against the OpenAPI document.
    pub async fn send(self) -> Reply {
        let reply = Reply::read(self.builder.send().await.unwrap()).await;
        self.leak_detector.record_secrets(&self.json);
        self.leak_detector.record_secrets(reply.json());
        if reply.status < 300 {
            self.leak_detector.record_passwords(&self.json);
        }
        contract::check(self.method.as_str(), &self.path, &reply);
        reply
    }
}

/// A caller without a credential.
pub struct Anonymous<'a> {
    pub app: &'a TestApp,
}

impl Identity for Anonymous<'_> {
    fn app(&self) -> &TestApp {
        self.app
    }
    fn secret(&self) -> Option<&str> {
        None
    }
}

macro_rules! credentials {
    ($($name:ident),*) => {$(
        impl Identity for $name<'_> {
            fn app(&self) -> &TestApp {
                self.app
            }
            fn secret(&self) -> Option<&str> {
                Some(&self.secret)
            }
        }
    )*};
}
credentials!(Session, Key, Token, Bearer);

/// A caller with an arbitrary secret.
pub struct Bearer<'a> {
    pub app: &'a TestApp,
    pub secret: String,
}

/// A signed-in user.
pub struct Session<'a> {
    pub app: &'a TestApp,
    pub user_id: UserId,
    pub email: String,
    pub id: String,
    pub secret: String,
    /// The user's project in this test, if any.
    pub project: String,
}

/// A key of a project.
pub struct Key<'a> {
    pub app: &'a TestApp,
    pub id: String,
    pub secret: String,
}

/// A token.
pub struct Token<'a> {
    pub app: &'a TestApp,
    pub id: String,
    pub secret: String,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name:?} in {value}")).to_owned()
}

impl<'a> Session<'a> {
    /// A key for this user's project, with the defaults.
    pub async fn key(&self) -> Key<'a> {
        self.key_with(json!({})).await
    }

    /// A key for this user's project, with these members in its request.
    pub async fn key_with(&self, mut members: Value) -> Key<'a> {
        members["project_id"] = json!(self.project);
        let made = self.post("/v1/keys", members).await.created();
        Key { app: self.app, id: text(&made, "id"), secret: text(&made, "key") }
    }

    /// A token for this user's project.
    pub async fn token(&self, scopes: &[&str]) -> Token<'a> {
        let body = json!({ "project_id": self.project, "name": "a token", "scopes": scopes });
        token(self.app, &self.post("/v1/tokens", body).await.created())
    }
}

impl<'a> Key<'a> {
    /// A token that this key issues.
    pub async fn token(&self, scopes: &[&str]) -> Token<'a> {
        token(self.app, &self.post("/v1/tokens", json!({ "name": "a token", "scopes": scopes })).await.created())
    }
}

impl<'a> Token<'a> {
    /// A token that this token issues.
    pub async fn token(&self, scopes: &[&str]) -> Token<'a> {
        token(self.app, &self.post("/v1/tokens", json!({ "name": "a token", "scopes": scopes })).await.created())
    }
}

fn token<'a>(app: &'a TestApp, made: &Value) -> Token<'a> {
    Token { app, id: text(made, "id"), secret: text(made, "token") }
}
