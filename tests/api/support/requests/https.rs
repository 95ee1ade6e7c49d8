//! A self-signed certificate, and requests over TLS and HTTP/2, which the usual client of these tests does not support.

use std::{path::PathBuf, sync::Arc};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Version,
    body::Bytes,
    client::conn::{http1, http2},
    header::HeaderMap,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// A certificate for `localhost` in files.
pub struct Certificate {
    der: CertificateDer<'static>,
    folder: TempDir,
}

impl Certificate {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cloudapi-tls-").tempdir().unwrap();
        let mut made = Self { der: CertificateDer::from(Vec::new()), folder };
        made.renew();
        made
    }

    /// Overwrites it with another certificate and key.
    pub fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.cert(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        self.der = made.cert.der().clone();
    }

    pub fn cert(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("tls.key")
    }

    /// A TLS acceptor with this certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::from_pem_file(self.key()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Connects to `address` as a client that trusts only this certificate and offers these protocols.
    pub async fn connect(&self, address: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

/// A response.
pub struct HttpResponse {
    pub status: u16,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Sends GET `path` over HTTP/1.1.
pub async fn get_http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> HttpResponse {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    read_response(sender.send_request(request).await.unwrap()).await
}

/// An HTTP/2 client on a connection that is known to use HTTP/2.
pub struct Http2(http2::SendRequest<Empty<Bytes>>);

impl Http2 {
    pub async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends GET `path`.
    pub async fn get(&self, path: &str) -> HttpResponse {
        self.get_with(path, "x-short", "a").await
    }

    /// Sends GET `path` with this header.
    pub async fn get_with(&self, path: &str, name: &str, value: &str) -> HttpResponse {
        let request = Request::get(format!("https://localhost{path}")).header(name, value);
        let request = request.body(Empty::new()).unwrap();
        read_response(self.0.clone().send_request(request).await.unwrap()).await
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

async fn read_response(response: hyper::Response<hyper::body::Incoming>) -> HttpResponse {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    HttpResponse { status: head.status.as_u16(), version: head.version, headers: head.headers, body }
}
