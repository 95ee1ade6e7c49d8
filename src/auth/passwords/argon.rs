//! Argon2 that reuses its memory while hashes are computed, and has none at rest.
//!
//! The library allocates new memory for each hash. Some allocators cache freed memory for each thread, and the work
//! moves between threads: after a hundred sign-ins, two cores held half a gigabyte.

use std::sync::{Mutex, MutexGuard, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        CustomizedPasswordHasher, Error, PasswordHasher, Result,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};

/// Argon2id with its parameters, and the memory of finished hashes.
#[derive(Debug)]
pub struct Hasher {
    params: Params,
    memory: Mutex<Memory>,
}

/// One buffer per concurrent hash, so at most one per core.
#[derive(Debug, Default)]
struct Memory {
    spare: Vec<Vec<Block>>,
    /// Number of hashes that are being computed.
    running: usize,
}

impl Hasher {
    /// Uses these parameters for new hashes.
    pub fn new(params: Params) -> Self {
        Self { params, memory: Mutex::default() }
    }

    /// Calls `work` with `blocks` of memory. The content does not matter, because the first pass overwrites all of it.
    fn with_memory<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let mut buffer = {
            let mut memory = self.memory();
            memory.running += 1;
            memory.spare.pop().unwrap_or_default()
        };
        buffer.resize(blocks, Block::default());
        let done = work(&mut buffer);
        let mut memory = self.memory();
        memory.running -= 1;
        if memory.running == 0 {
            memory.spare.clear();
        } else if blocks <= self.params.block_count() {
            // A stored hash may need more memory than new ones do. Such a buffer is not kept.
            memory.spare.push(buffer);
        }
        done
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compute(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Algorithm,
        version: Version,
        params: Params,
    ) -> Result<PasswordHash> {
        let salt = Salt::new(salt)?;
        let mut buffer = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let output = buffer.get_mut(..length).ok_or(Error::OutputSize)?;
        let shown = ParamsString::try_from(&params)?;
        let blocks = params.block_count();
        let argon2 = Argon2::new(algorithm, version, params);
        self.with_memory(blocks, |memory| argon2.hash_password_into_with_memory(password, &salt, output, memory))?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: shown,
            salt: Some(salt),
            hash: Some(Output::new(output)?),
        })
    }
}

impl PasswordHasher<PasswordHash> for Hasher {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash> {
        self.compute(password, salt, Algorithm::Argon2id, Version::V0x13, self.params.clone())
    }
}

/// Verifies stored hashes, with any parameters.
impl CustomizedPasswordHasher<PasswordHash> for Hasher {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash> {
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(Version::try_from).transpose()?.unwrap_or_default();
        self.compute(password, salt, algorithm, version, params)
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordVerifier;

    use super::*;

    fn params(memory_kib: u32) -> Params {
        Params::new(memory_kib, 2, 1, None).unwrap()
    }

    #[test]
    fn hashes_in_reused_memory_equal_those_of_the_library() {
        let hasher = Hasher::new(params(64));
        // While one hash is computed, the memory of others is kept.
        hasher.with_memory(1, |_| {
            for password in ["one", "another", "a third"] {
                let salt = [7; 16];
                let ours = hasher.hash_password_with_salt(password.as_bytes(), &salt).unwrap();
                let library = Argon2::new(Algorithm::Argon2id, Version::V0x13, params(64));
                assert_eq!(
                    ours.to_string(),
                    library.hash_password_with_salt(password.as_bytes(), &salt).unwrap().to_string()
                );
                assert!(hasher.verify_password(password.as_bytes(), &ours).is_ok());
                assert!(hasher.verify_password(b"wrong", &ours).is_err());
            }
            assert_eq!(hasher.memory().spare.len(), 1);
        });
        assert_eq!(hasher.memory().spare.len(), 0);
    }

    #[test]
    fn hash_with_other_parameters_is_verified_and_its_larger_buffer_is_not_kept() {
        for (memory_kib, kept) in [(32, 1), (128, 0)] {
            let hasher = Hasher::new(params(64));
            let stored =
                Argon2::new(Algorithm::Argon2i, Version::V0x10, params(memory_kib)).hash_password(b"right").unwrap();
            hasher.with_memory(1, |_| {
                assert!(hasher.verify_password(b"right", &stored).is_ok());
                assert!(hasher.verify_password(b"wrong", &stored).is_err());
                assert_eq!(hasher.memory().spare.len(), kept);
            });
        }
    }
}
