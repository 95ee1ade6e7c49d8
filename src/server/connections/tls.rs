//! TLS termination.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::server::config::redaction::display_path;

/// Reason why HTTPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Only one of the two files is set.
    #[error("{0} is set, but {1} is not; set both to serve https, or neither to serve http")]
    Incomplete(&'static str, &'static str),
    /// A file cannot be read.
    #[error(
        "{setting}{} cannot be read: {error}; check that it names a file, and that this user may read it",
        display_path(path)
    )]
    Unreadable {
        /// Setting that names the file.
        setting: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        error: io::Error,
    },
    /// A file has no certificate or key.
    #[error("{setting}{} holds no {what}; use a PEM file that contains {example}", display_path(path))]
    Empty {
        /// Setting that names the file.
        setting: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Expected content.
        what: &'static str,
        /// First line of the expected content.
        example: &'static str,
    },
    /// A file is not valid PEM.
    #[error("{setting}{} is not a valid PEM file{}; create it again", display_path(path), pem_fault(error))]
    Malformed {
        /// Setting that names the file.
        setting: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        error: pem::Error,
    },
    /// The certificate and the key cannot be used together.
    #[error(
        "the key of CLOUDAPI_TLS_KEY cannot be used with the certificate of CLOUDAPI_TLS_CERT: {0}; use the key that the certificate was issued for, and put the server's own certificate first"
    )]
    Mismatch(rustls::Error),
}

const CERT: &str = "CLOUDAPI_TLS_CERT (--tls-cert)";
const KEY: &str = "CLOUDAPI_TLS_KEY (--tls-key)";

/// Certificate and key in use. Clones share them.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the files of the two settings. None if neither is set.
    pub fn from_settings(cert: Option<&Path>, key: Option<&Path>) -> Result<Option<Self>, TlsError> {
        match (cert, key) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(TlsError::Incomplete(CERT, KEY)),
            (None, Some(_)) => Err(TlsError::Incomplete(KEY, CERT)),
            (Some(cert), Some(key)) => {
                let config = Arc::new(RwLock::new(read(cert, key)?));
                Ok(Some(Self { cert: cert.to_owned(), key: key.to_owned(), config }))
            }
        }
    }

    /// Reads the files again, for new connections, because certificates are renewed more often than servers are
    /// restarted. If the files are invalid, the current certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.cert, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Performs the TLS handshake on `stream`.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|error| refused(CERT, cert, error))?;
    if certificates.is_empty() {
        return Err(empty(CERT, cert));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(KEY, key, error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(TlsError::Mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn refused(setting: &'static str, path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => TlsError::Unreadable { setting, path: path.to_owned(), error },
        pem::Error::NoItemsFound => empty(setting, path),
        error => TlsError::Malformed { setting, path: path.to_owned(), error },
    }
}

/// Describes the fault in a PEM file without quoting a line of it.
fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => ": a section has no end",
        pem::Error::IllegalSectionStart { .. } => ": the line that begins a section is malformed",
        pem::Error::Base64Decode(_) => ": a section is not Base64",
        _ => "",
    }
}

fn empty(setting: &'static str, path: &Path) -> TlsError {
    let (what, example) = match setting {
        KEY => ("private key", "'-----BEGIN PRIVATE KEY-----'"),
        _ => ("certificate", "'-----BEGIN CERTIFICATE-----'"),
    };
    TlsError::Empty { setting, path: path.to_owned(), what, example }
}
