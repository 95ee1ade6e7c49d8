//! Hashes that link entries, as pure functions; verifiers repeat the same computation. [`link`] appends entries to a
//! chain, [`line`] is the exported form of an entry, and [`checkpoint`] signs the end of a chain.

pub mod checkpoint;
pub mod line;
pub mod link;

use sha2::{Digest, Sha256};

use crate::base::id::ProjectId;

/// SHA-256 hash.
pub type Hash = [u8; 32];
/// Random bytes that are hashed before a payload, so that the content of a redacted entry cannot be guessed from its
/// hash.
pub type Salt = [u8; 16];

/// Previous hash of a chain's first entry.
pub const GENESIS: Hash = [0; 32];

/// Hash of an entry's payload.
pub fn payload_hash(salt: &Salt, payload: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(payload);
    hash.finalize().into()
}

/// Hash of an entry in its chain. Covers all earlier entries through `prev`.
pub fn entry_hash(prev: &Hash, project: ProjectId, seq: i64, payload: &Hash) -> Hash {
    let mut hash = Sha256::new();
    // Each field has a fixed width, so that no two different entries produce the same input.
    hash.update(prev);
    hash.update(project.as_u128().to_be_bytes());
    hash.update(seq.to_be_bytes());
    hash.update(payload);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    // Vectors from Python's hashlib:
    // p = sha256(bytes(range(16)) + b'{"a":1}')
    // e = sha256(bytes(32) + (0x8f2c4).to_bytes(16,'big') + (1).to_bytes(8,'big') + p)
    #[test]
    fn hashes_match_vectors_from_python() {
        let salt: Salt = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let payload = payload_hash(&salt, br#"{"a":1}"#);
        assert_eq!(hex::encode(&payload), "aed8a0ebb5f60a8aa06554873318b8e888584ebddf7878258719930ae328cbb2");
        let project = ProjectId::from_u128(0x8f2c4);
        let first = entry_hash(&GENESIS, project, 1, &payload);
        assert_eq!(hex::encode(&first), "0ed6ffa6aa0dfd9d973205349f25927a9f54a636220c4235385c9d7ff52a0e45");
        let second = entry_hash(&first, project, 2, &payload);
        assert_eq!(hex::encode(&second), "ee93800f1b80a03516c1428f2746eb6479fd33eae8fc38ea81993ebf4c9cfeb4");
    }

    #[test]
    fn hash_covers_every_part_of_an_entry() {
        let (payload, project) = (payload_hash(&[0; 16], b""), ProjectId::from_u128(1));
        let hash = entry_hash(&GENESIS, project, 1, &payload);
        assert_ne!(hash, entry_hash(&[1; 32], project, 1, &payload));
        assert_ne!(hash, entry_hash(&GENESIS, ProjectId::from_u128(2), 1, &payload));
        assert_ne!(hash, entry_hash(&GENESIS, project, 2, &payload));
        assert_ne!(hash, entry_hash(&GENESIS, project, 1, &payload_hash(&[1; 16], b"")));
        assert_ne!(hash, entry_hash(&GENESIS, project, 1, &payload_hash(&[0; 16], b"x")));
    }
}
