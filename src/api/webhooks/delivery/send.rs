//! One exchange with a receiver: one name lookup, one connection to a permitted address, one request, and the head of
//! one response. Each exchange uses a new connection, so that the request goes to the address that was checked.
//! Redirects are not followed, proxies are not used, and response bodies are not stored.

use std::{
    fmt,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::{Request, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

pub use super::error::DeliveryError;
use super::{connect, retry_after, url_policy};
use crate::base::input::net::Cidr;

/// Maximum size of a response's head; a larger head is an error. Also the amount of the body that is read, because some
/// receivers treat a connection that closes before the body is read as an error.
const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Relevant parts of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverResponse {
    /// HTTP status.
    pub status: u16,
    /// Delay requested by `Retry-After`, if any.
    pub retry_after: Option<Duration>,
}

type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Function that resolves a name.
pub type LookupFn = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolver of host names.
#[derive(Clone, Default)]
pub enum Resolver {
    /// The system's resolver.
    #[default]
    System,
    /// A test's resolver.
    Custom(Arc<LookupFn>),
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Custom(_) => "Custom",
        })
    }
}

impl Resolver {
    fn lookup(&self, name: &str) -> LookupFuture {
        match self {
            Self::System => {
                let name = name.to_owned();
                Box::pin(async move { connect::resolve(&name).await })
            }
            Self::Custom(find) => {
                let found = find(name);
                Box::pin(async { found })
            }
        }
    }
}

/// Sends requests to receivers.
#[derive(Debug)]
pub struct Sender {
    allowed: Vec<Cidr>,
    resolver: Resolver,
    /// Loaded on first use: loading takes time, and many deployments have no webhooks.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Sender {
    /// Permits the networks `allowed` in addition to the public Internet.
    pub fn new(allowed: Vec<Cidr>, resolver: Resolver) -> Self {
        Self { allowed, resolver, tls: OnceLock::new() }
    }

    /// Networks that are permitted in addition to the public Internet.
    pub fn allowed(&self) -> &[Cidr] {
        &self.allowed
    }

    /// Sends `request`, which has its headers and body, to `url`, within `limit`.
    pub async fn send(
        &self,
        url: &Url,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<ReceiverResponse, DeliveryError> {
        timeout(limit, self.exchange(url, request)).await.unwrap_or(Err(DeliveryError::Timeout))
    }

    async fn exchange(&self, url: &Url, mut request: Request<Body>) -> Result<ReceiverResponse, DeliveryError> {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(DeliveryError::NameNotFound);
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        *request.uri_mut() = path.parse().map_err(|_| DeliveryError::NameNotFound)?;
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        request.headers_mut().insert(header::HOST, authority.parse().map_err(|_| DeliveryError::NameNotFound)?);
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));

        let stream = self.connect(url.scheme(), &host, port).await?;
        if url.scheme() == "http" {
            return send_over(stream, request).await;
        }
        let name = match host {
            Host::Domain(name) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| DeliveryError::TlsFailed)?
            }
            Host::Ipv4(address) => ServerName::from(IpAddr::V4(address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::V6(address)),
        };
        let stream = self.tls()?.connect(name, stream).await.map_err(|_| DeliveryError::TlsFailed)?;
        send_over(stream, request).await
    }

    /// Connects to one of the host's addresses. The name is resolved once, and only the checked addresses are used, so
    /// that a DNS change cannot redirect the connection.
    async fn connect(&self, scheme: &str, host: &Host<&str>, port: u16) -> Result<TcpStream, DeliveryError> {
        let found = match host {
            Host::Domain(name) if connect::has_invalid_tld(name) => Vec::new(),
            Host::Domain(name) => self.resolver.lookup(name).await.map_err(|error| {
                tracing::debug!(%error, "name lookup of a webhook's receiver failed");
                DeliveryError::from_lookup_error(&error)
            })?,
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
        };
        if found.is_empty() {
            return Err(DeliveryError::NameNotFound);
        }
        let permitted = found.into_iter().filter(|address| url_policy::is_permitted(*address, scheme, &self.allowed));
        connect::connect(permitted.collect(), port).await
    }

    fn tls(&self) -> Result<TlsConnector, DeliveryError> {
        if let Some(tls) = self.tls.get() {
            return Ok(TlsConnector::from(Arc::clone(tls)));
        }
        let mut roots = RootCertStore::empty();
        // Certificates of the system, or of SSL_CERT_FILE and SSL_CERT_DIR.
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::error!(
                errors = ?found.errors,
                "no certificate authorities found, so webhooks cannot be sent over https; install ca-certificates, or set SSL_CERT_FILE"
            );
            return Err(DeliveryError::NoAuthorities);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| DeliveryError::TlsFailed)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::clone(self.tls.get_or_init(|| Arc::new(config)))))
    }
}

async fn send_over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<ReceiverResponse, DeliveryError> {
    let handshake = http1::Builder::new().max_buf_size(MAX_BODY_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| DeliveryError::BadResponse)?;
    // Ends with this exchange in every case.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|_| DeliveryError::BadResponse)?;
    let summary = ReceiverResponse {
        status: response.status().as_u16(),
        retry_after: retry_after::from_headers(response.headers()),
    };
    let _ = timeout(BODY_TIMEOUT, drain_body(response.into_body())).await;
    Ok(summary)
}

async fn drain_body(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY_BYTES {
            return;
        }
    }
}
