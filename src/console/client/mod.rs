//! Calls of `/v1` in the same process, through the same layers as requests from the network.

pub mod call;
pub mod fault;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::Response,
};
use http_body_util::BodyExt;
use serde::{Deserialize, de::DeserializeOwned};
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::{
    auth::console::ConsoleRequest,
    base::{error::Error, runtime::request::RequestContext},
};
pub use call::Call;
pub use fault::Fault;

/// The API with all layers, as a service.
pub type V1 = BoxCloneSyncService<Request, Response, Infallible>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Headers of the browser's request from which the API learns the client's address and program.
const FORWARDED: [HeaderName; 2] = [header::USER_AGENT, HeaderName::from_static("x-forwarded-for")];

/// Client of `/v1` for one request of a browser. It records the calls, which the page then shows as curl commands.
#[derive(Debug)]
pub struct Client {
    v1: V1,
    credential: ConsoleRequest,
    peer: Option<ConnectInfo<SocketAddr>>,
    headers: HeaderMap,
    calls: Mutex<Vec<Call>>,
}

/// Successful response.
#[derive(Debug)]
pub struct Reply<T> {
    /// Body.
    pub body: T,
    /// Entity tag, if the response has one.
    pub etag: Option<String>,
    /// Whether this is the stored response of an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct List<T> {
    /// Items.
    pub data: Vec<T>,
    /// Cursor of the next page, if more items may follow.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

impl Client {
    /// Creates the client for the browser's request `head`.
    pub fn new(v1: V1, credential: ConsoleRequest, head: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in FORWARDED {
            for value in head.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if let Some(context) = head.extensions.get::<Arc<RequestContext>>() {
            let named = [(REQUEST_ID, context.id.to_string()), (TRACEPARENT, context.trace.to_string())];
            headers
                .extend(named.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))));
        }
        // The peer that connected. Proxies are evaluated from the header by the API's own layer.
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().copied();
        Self { v1, credential, peer, headers, calls: Mutex::default() }
    }

    /// Gets an object or a document.
    pub async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<Reply<T>, Fault> {
        self.send(Call::get(path)).await
    }

    /// Sends a call, and records it for the page's list of calls.
    pub async fn send<T: DeserializeOwned>(&self, call: Call) -> Result<Reply<T>, Fault> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
        self.send_unrecorded(&call).await
    }

    /// Sends a call that the page does not stand for, such as one that the layout needs.
    pub async fn send_unrecorded<T: DeserializeOwned>(&self, call: &Call) -> Result<Reply<T>, Fault> {
        let response = self.stream(call).await?;
        let (head, body) = response.into_parts();
        let etag = head.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let replayed = head.headers.contains_key("idempotent-replayed");
        let bytes = body.collect().await.map_err(Fault::internal)?.to_bytes();
        let body = serde_json::from_slice(&bytes).map_err(Fault::internal)?;
        Ok(Reply { body, etag, replayed })
    }

    /// Sends a call and returns the response with its body as it is, for downloads and streams.
    pub async fn stream(&self, call: &Call) -> Result<Response, Fault> {
        let mut request = call.request().map_err(Fault::internal)?;
        request.headers_mut().extend(self.headers.clone());
        request.extensions_mut().insert(self.credential.clone());
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let Ok(response) = self.v1.clone().oneshot(request).await;
        if response.status().is_success() { Ok(response) } else { Err(Fault::of(&response)) }
    }

    /// The recorded calls.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}

/// Empty body.
pub(super) fn empty() -> Body {
    Body::empty()
}
