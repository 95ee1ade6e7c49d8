//! Signatures over the end of a chain. A chain shows by itself that nothing within it was changed; only a signature that
//! was carried elsewhere shows that its end was not cut off, nor all of it made anew.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::{chain::Hash, model::DEPLOYMENT};
use crate::base::{clock::Timestamp, hex, id::ProjectId, server_key::ServerKey};

const PURPOSE: &str = "cloudapi audit signing key v1";

/// What a signature says of the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// That it was there.
    Checkpoint,
    /// That what came up to there was removed because of its age, and the rest begins after it.
    Anchor,
}

impl Statement {
    /// What is signed begins with this, so that one statement cannot be taken for another.
    const fn heading(self) -> &'static str {
        match self {
            Self::Checkpoint => "cloudapi audit checkpoint v1",
            Self::Anchor => "cloudapi audit anchor v1",
        }
    }
}

/// The end of a chain at some time, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What is said of it.
    pub statement: Statement,
    /// Whose chain it is.
    pub project_id: ProjectId,
    /// The number of the last entry.
    pub seq: i64,
    /// That entry's hash.
    pub hash: Hash,
    /// When it was signed.
    pub made_at: Timestamp,
    /// The key that it can be checked with.
    pub public_key: [u8; 32],
    /// The signature (Ed25519, RFC 8032).
    pub signature: [u8; 64],
}

impl Signed {
    /// The text that is signed.
    pub fn text(&self) -> String {
        text(self.statement, self.project_id, self.seq, &self.hash, self.made_at)
    }

    /// Whether the signature is that of `public_key` over this.
    pub fn is_genuine(&self) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        VerifyingKey::from_bytes(&self.public_key)
            .is_ok_and(|key| key.verify_strict(self.text().as_bytes(), &signature).is_ok())
    }
}

fn text(statement: Statement, project: ProjectId, seq: i64, hash: &Hash, made_at: Timestamp) -> String {
    let project = if project == DEPLOYMENT { "deployment".to_owned() } else { project.to_string() };
    format!("{}\n{project}\n{seq}\n{}\n{made_at}\n", statement.heading(), hex::encode(hash))
}

/// Signs for a deployment.
#[derive(Debug)]
pub struct Signer(SigningKey);

impl Signer {
    /// With the key that the deployment's key gives for this.
    pub fn new(key: &ServerKey) -> Self {
        Self(SigningKey::from_bytes(&key.derive(PURPOSE)))
    }

    /// What its signatures can be checked with.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `statement` about the end of a chain.
    pub fn sign(
        &self,
        statement: Statement,
        project_id: ProjectId,
        seq: i64,
        hash: Hash,
        made_at: Timestamp,
    ) -> Signed {
        let signature = self.0.sign(text(statement, project_id, seq, &hash, made_at).as_bytes()).to_bytes();
        Signed { statement, project_id, seq, hash, made_at, public_key: self.public_key(), signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_what_was_signed_and_nothing_else() {
        let key = ServerKey::parse(&"5a".repeat(32)).unwrap();
        let made_at = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let signed =
            Signer::new(&key).sign(Statement::Checkpoint, ProjectId::from_u128(0x8f2c4), 7, [0xab; 32], made_at);
        assert_eq!(
            signed.text(),
            format!("cloudapi audit checkpoint v1\nproj_8f2c4\n7\n{}\n2026-03-01T00:00:00.000Z\n", "ab".repeat(32))
        );
        assert!(signed.is_genuine());
        assert!(!Signed { statement: Statement::Anchor, ..signed.clone() }.is_genuine());
        assert!(!Signed { project_id: DEPLOYMENT, ..signed.clone() }.is_genuine());
        assert!(!Signed { seq: 8, ..signed.clone() }.is_genuine());
        assert!(!Signed { hash: [0xac; 32], ..signed.clone() }.is_genuine());
        assert!(!Signed { made_at: Timestamp::EARLIEST, ..signed.clone() }.is_genuine());
        let other = Signer::new(&ServerKey::generate()).public_key();
        assert!(!Signed { public_key: other, ..signed.clone() }.is_genuine());
        // The same key signs the same, whenever it is asked (RFC 8032).
        assert_eq!(Signer::new(&key).sign(Statement::Checkpoint, signed.project_id, 7, [0xab; 32], made_at), signed);
    }
}
