//! Password hashing: Argon2id (RFC 9106) with the parameters that OWASP recommends, limited to the number of cores
//! ([`cpu_pool`]). [`attempts`] delays responses after failures, and [`rules`] says which passwords are accepted.

pub mod argon;
pub mod attempts;
pub mod cpu_pool;
pub mod rules;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use argon2::{
    ARGON2ID_IDENT, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use crate::base::{
    error::{Error, Result},
    runtime::clock::Timestamp,
};
use argon::Hasher;
use attempts::Attempts;
use cpu_pool::CpuPool;

/// OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash of no password: its salt and its output are random. Verified if there is no user, so that an unknown email
/// address costs as much time as a known one.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Epfkn4mzGe+SMEqAhNKuow$7PFEsDmaHvO1TKuW7SFLKVrgHed20QqV+pAbZoAjelY";

/// Hashes and verifies passwords.
#[derive(Debug)]
pub struct Passwords {
    argon2: Arc<Hasher>,
    verifications: Arc<AtomicU64>,
    /// Executor of the hashing.
    pub cpu_pool: CpuPool,
    /// Recent failures.
    pub attempts: Attempts,
}

/// Proof that a password was correct.
#[derive(Debug)]
pub struct PasswordMatch {
    /// Hash to store instead of the old one, if that is weaker than new hashes.
    pub upgrade: Option<String>,
}

impl Passwords {
    /// Uses the parameters above for new hashes.
    pub fn new() -> Result<Self> {
        let params =
            Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self {
            argon2: Arc::new(Hasher::new(params)),
            verifications: Arc::default(),
            cpu_pool: CpuPool::for_this_machine(),
            attempts: Attempts::default(),
        })
    }

    /// The hash to store, in PHC string format.
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let argon2 = Arc::clone(&self.argon2);
        self.cpu_pool.run(move || hash(&argon2, &password)).await
    }

    /// Whether `password` matches `stored`, for a client that claims to be `address`. The response to a correct
    /// password is never delayed. The response to a wrong one is delayed by the number of recent failures
    /// ([`Attempts`]). No core is held during the delay, and the caller should hold no connection.
    pub async fn verify_throttled(
        &self,
        address: &str,
        password: SecretString,
        stored: Option<String>,
        now: Timestamp,
    ) -> Result<Option<PasswordMatch>> {
        let proof = self.verify(password, stored).await?;
        match proof {
            Some(_) => self.attempts.reset(address),
            None => self.attempts.record_failure_and_wait(address, now).await,
        }
        Ok(proof)
    }

    /// Runs one verification. Costs the same if nothing is stored.
    async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<Option<PasswordMatch>> {
        let argon2 = Arc::clone(&self.argon2);
        let verifications = Arc::clone(&self.verifications);
        let work = move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(DECOY);
            let parsed = PasswordHash::new(stored).map_err(|error| Error::internal(error.to_string()))?;
            verifications.fetch_add(1, Ordering::Relaxed);
            let matches = argon2.verify_password(normal(&password).expose_secret().as_bytes(), &parsed).is_ok();
            if !(matches && known) {
                return Ok(None);
            }
            let upgrade = if is_weak(&parsed) { Some(hash(&argon2, &password)?) } else { None };
            Ok(Some(PasswordMatch { upgrade }))
        };
        self.cpu_pool.run(work).await
    }

    /// Number of verifications so far.
    pub fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }
}

/// Whether a stored hash is cheaper to attack than a new one.
fn is_weak(stored: &PasswordHash) -> bool {
    let strong = stored.algorithm == ARGON2ID_IDENT
        && stored.version == Some(Version::V0x13.into())
        && Params::try_from(stored).is_ok_and(|params| params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES);
    !strong
}

/// The password in NFC, which does not depend on how a keyboard composes characters.
fn normal(password: &SecretString) -> SecretString {
    password.expose_secret().nfc().collect::<String>().into()
}

fn hash(argon2: &Hasher, password: &SecretString) -> Result<String> {
    argon2
        .hash_password(normal(password).expose_secret().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| Error::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(memory_kib: u32, passes: u32) -> String {
        let params = Params::new(memory_kib, passes, LANES, None).unwrap();
        hash(&Hasher::new(params), &"right".into()).unwrap()
    }

    #[tokio::test]
    async fn decoy_costs_as_much_as_a_stored_hash_and_never_matches() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("right".into()).await.unwrap();
        let cost = |hash: &str| {
            let hash = PasswordHash::new(hash).unwrap();
            (hash.algorithm.to_string(), hash.version, hash.params.to_string(), hash.hash.unwrap().len())
        };
        assert_eq!(cost(DECOY), cost(&stored));
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        let decoyed = passwords.verify("right".into(), None).await.unwrap();
        assert!(decoyed.is_none());
    }

    #[tokio::test]
    async fn weak_hash_is_upgraded_after_a_correct_password() {
        let passwords = Passwords::new().unwrap();
        for (memory_kib, passes, weak) in
            [(1024, 2, true), (MEMORY_KIB, 1, true), (MEMORY_KIB, 2, false), (20_000, 3, false)]
        {
            let stored = with(memory_kib, passes);
            assert!(passwords.verify("wrong".into(), Some(stored.clone())).await.unwrap().is_none());
            let proof = passwords.verify("right".into(), Some(stored)).await.unwrap().unwrap();
            assert_eq!(proof.upgrade.is_some(), weak, "m={memory_kib}, t={passes}");
            if let Some(upgrade) = proof.upgrade {
                let again = passwords.verify("right".into(), Some(upgrade)).await.unwrap().unwrap();
                assert!(again.upgrade.is_none());
            }
        }
    }
}
