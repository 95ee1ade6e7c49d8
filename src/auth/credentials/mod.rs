//! SQL that reads what decides whether a credential is valid. Each read is one statement that also returns its stamp,
//! by which [`super::revocation::verified`] decides whether the read counts.

pub mod accounts;
pub mod keys;
pub mod members;
pub mod sessions;
pub mod tokens;
