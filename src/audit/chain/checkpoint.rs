//! Signatures on the end of a chain. The hashes of a chain prove that no entry within it was changed. Only a signature
//! that is stored elsewhere proves that the chain was not truncated or rebuilt.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::Hash;
use crate::{
    audit::model::DEPLOYMENT,
    base::{hex, id::ProjectId, runtime::clock::Timestamp, server_key::ServerKey},
};

const PURPOSE: &str = "cloudapi audit signing key v1";

/// Type of signed statement about the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The chain had this end at this time.
    Checkpoint,
    /// Entries up to this one were removed because of their age; the chain continues after it.
    Anchor,
}

impl Statement {
    /// First line of the signed text, so that one type of statement cannot be replayed as another.
    const fn header(self) -> &'static str {
        match self {
            Self::Checkpoint => "cloudapi audit checkpoint v1",
            Self::Anchor => "cloudapi audit anchor v1",
        }
    }
}

/// Signed end of a chain at a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// Type of statement.
    pub statement: Statement,
    /// Project of the chain.
    pub project_id: ProjectId,
    /// Number of the last entry.
    pub seq: i64,
    /// Hash of the last entry.
    pub hash: Hash,
    /// Time of the signature.
    pub made_at: Timestamp,
    /// Public key that verifies the signature.
    pub public_key: [u8; 32],
    /// Ed25519 signature (RFC 8032).
    pub signature: [u8; 64],
}

impl SignedStatement {
    /// Signed text.
    pub fn text(&self) -> String {
        text(self.statement, self.project_id, self.seq, &self.hash, self.made_at)
    }

    /// Whether `signature` is a valid signature of `public_key` on this statement.
    pub fn has_valid_signature(&self) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        VerifyingKey::from_bytes(&self.public_key)
            .is_ok_and(|key| key.verify_strict(self.text().as_bytes(), &signature).is_ok())
    }
}

fn text(statement: Statement, project: ProjectId, seq: i64, hash: &Hash, made_at: Timestamp) -> String {
    let project = if project == DEPLOYMENT { "deployment".to_owned() } else { project.to_string() };
    format!("{}\n{project}\n{seq}\n{}\n{made_at}\n", statement.header(), hex::encode(hash))
}

/// Signs statements for a deployment.
#[derive(Debug)]
pub struct Signer(SigningKey);

impl Signer {
    /// Derives the signing key from the server key.
    pub fn new(key: &ServerKey) -> Self {
        Self(SigningKey::from_bytes(&key.derive(PURPOSE)))
    }

    /// Public key that verifies this signer's signatures.
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
    ) -> SignedStatement {
        let signature = self.0.sign(text(statement, project_id, seq, &hash, made_at).as_bytes()).to_bytes();
        SignedStatement { statement, project_id, seq, hash, made_at, public_key: self.public_key(), signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_valid_only_for_the_signed_statement() {
        let key = ServerKey::parse(&"5a".repeat(32)).unwrap();
        let made_at = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let signed =
            Signer::new(&key).sign(Statement::Checkpoint, ProjectId::from_u128(0x8f2c4), 7, [0xab; 32], made_at);
        assert_eq!(
            signed.text(),
            format!("cloudapi audit checkpoint v1\nproj_8f2c4\n7\n{}\n2026-03-01T00:00:00.000Z\n", "ab".repeat(32))
        );
        assert!(signed.has_valid_signature());
        assert!(!SignedStatement { statement: Statement::Anchor, ..signed.clone() }.has_valid_signature());
        assert!(!SignedStatement { project_id: DEPLOYMENT, ..signed.clone() }.has_valid_signature());
        assert!(!SignedStatement { seq: 8, ..signed.clone() }.has_valid_signature());
        assert!(!SignedStatement { hash: [0xac; 32], ..signed.clone() }.has_valid_signature());
        assert!(!SignedStatement { made_at: Timestamp::EARLIEST, ..signed.clone() }.has_valid_signature());
        let other = Signer::new(&ServerKey::generate()).public_key();
        assert!(!SignedStatement { public_key: other, ..signed.clone() }.has_valid_signature());
        // Ed25519 signatures are deterministic (RFC 8032).
        assert_eq!(Signer::new(&key).sign(Statement::Checkpoint, signed.project_id, 7, [0xab; 32], made_at), signed);
    }
}
