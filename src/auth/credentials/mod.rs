//! Reads of what decides whether a credential is valid. Each is one statement that also returns its stamp, by which
//! `revocation::verified` decides whether it counts.

pub mod accounts;
pub mod keys;
pub mod members;
pub mod sessions;
pub mod tokens;
