//! Passwords: Argon2id (RFC 9106) with the parameters OWASP recommends, bounded to the cores.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use crate::base::error::{Code, Error, Result};

/// OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes and verifies passwords; at most one at a time for each core.
#[derive(Clone, Debug)]
pub struct Passwords {
    argon2: Argon2<'static>,
    cores: Arc<Semaphore>,
    /// The hash of a password nobody has, verified when there is no user, so that an unknown e-mail
    /// address costs what a known one does.
    decoy: Arc<str>,
}

impl Passwords {
    /// Ready to work. Computes one hash.
    pub fn new() -> Result<Self> {
        let params =
            Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| Error::internal(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash(&argon2, &SecretString::from("a password nobody has"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { argon2, cores: Arc::new(Semaphore::new(cores)), decoy: decoy.into() })
    }

    /// The hash to store, in PHC string form.
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let argon2 = self.argon2.clone();
        self.on_a_core(move || hash(&argon2, &password)).await
    }

    /// Whether `password` is the one behind `stored`. Takes the same time when nothing is stored.
    pub async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<bool> {
        let argon2 = self.argon2.clone();
        let decoy = Arc::clone(&self.decoy);
        self.on_a_core(move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&decoy);
            let parsed = PasswordHash::new(stored).map_err(|error| Error::internal(error.to_string()))?;
            let matches = argon2.verify_password(normal(&password).expose_secret().as_bytes(), &parsed).is_ok();
            Ok(matches && known)
        })
        .await
    }

    async fn on_a_core<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(Code::Overloaded, "The server is shutting down; retry elsewhere"))?;
        tokio::task::spawn_blocking(move || {
            // Held by the work, not by the waiting: a client that goes frees no core.
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)?
    }
}

/// The same password, however its keyboard composes it (NFC).
fn normal(password: &SecretString) -> SecretString {
    password.expose_secret().nfc().collect::<String>().into()
}

fn hash(argon2: &Argon2<'_>, password: &SecretString) -> Result<String> {
    argon2
        .hash_password(normal(password).expose_secret().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| Error::internal(error.to_string()))
}
