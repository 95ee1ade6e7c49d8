//! Revocation that applies on every server before it is acknowledged (docs/revocation.md): the credential [`cache`],
//! the [`lease`] that makes it valid, the log of invalidations ([`node`]), and the reads that may replace a cache entry
//! ([`verified`]). [`keeper`] keeps the lease, and removes dead nodes as [`janitor`] decides. Responses in progress learn of
//! invalidations through [`watches`].

pub mod cache;
pub mod janitor;
pub mod keeper;
pub mod lease;
pub mod node;
#[cfg(test)]
#[allow(clippy::print_stdout, reason = "it prints statistics")]
pub mod simulator;
pub mod verified;
pub mod watches;
