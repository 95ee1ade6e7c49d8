//! Requests in the server's process, as the console makes them.

use std::net::SocketAddr;

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request},
};
use cloudapi::{
    auth::console::{ConsoleRequest, ConsoleSecret},
    server::{self, routes},
};
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{TestApp, contract, reply::Reply};

/// User agent of the browser.
pub const BROWSER: &str = "Browser/1";
/// Address of the browser.
pub const BROWSER_ADDRESS: &str = "198.51.100.7";

/// A browser in front of the console.
pub struct Console<'a> {
    pub app: &'a TestApp,
    request: ConsoleRequest,
}

impl<'a> Console<'a> {
    /// A browser without a session.
    pub fn anonymous(app: &'a TestApp) -> Self {
        Self { app, request: ConsoleRequest::Anonymous }
    }

    /// A browser with the secret of a console session.
    pub fn with_secret(app: &'a TestApp, secret: &str) -> Self {
        app.leak_detector.record(secret);
        Self { app, request: ConsoleRequest::Session(ConsoleSecret::parse(secret).unwrap()) }
    }

    /// Sends a request. A null body is none.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let peer: SocketAddr = format!("{BROWSER_ADDRESS}:1").parse().unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "console.example")
            .header("user-agent", BROWSER)
            .extension(ConnectInfo(peer))
            .extension(self.request.clone());
        if !body.is_null() {
            request = request.header("content-type", "application/json");
        }
        let body = if body.is_null() { Body::empty() } else { body.to_string().into() };
        let service = server::layers(self.app, routes::router((**self.app).clone()));
        let Ok(response) = service.oneshot(request.body(body).unwrap()).await;
        let (head, body) = response.into_parts();
        let is_stream = head.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if is_stream { Vec::new() } else { to_bytes(body, usize::MAX).await.unwrap().to_vec() };
        let reply = Reply::from_parts(&head, body);
        self.app.leak_detector.record_secrets(reply.json());
        // The document describes responses to clients; they get no secrets of this kind.
        if reply["token"].is_null() {
            contract::check(method, path, &reply);
        }
        reply
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null).await
    }
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, &body).await
    }
    pub async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &Value::Null).await
    }
}
