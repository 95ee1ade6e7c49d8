//! Revocation that holds on every server before it is acknowledged: the credential cache, the lease that makes it valid, and the
//! log of invalidations (docs/revocation.md).

pub mod cache;
pub mod janitor;
pub mod keeper;
pub mod lease;
pub mod node;
#[cfg(test)]
#[allow(clippy::print_stdout, reason = "it prints statistics")]
pub mod simulator;
pub mod verified;
