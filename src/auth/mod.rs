//! Authentication and authorization: from a bearer secret to a [`Caller`](crate::base::caller::Caller),
//! and from a caller to a [`Tenant`](crate::base::tenant::Tenant).

mod admission;
mod again;
pub mod argon;
pub mod attempts;
pub mod bearer;
pub mod budget;
pub mod cache;
pub mod cores;
pub mod figures;
pub mod gate;
pub mod grant;
pub mod janitor;
pub mod keeper;
pub mod lease;
pub mod limits;
pub mod lookup_batch;
pub mod lookup_limits;
pub mod node;
pub mod password;
pub mod password_rules;
#[cfg(test)]
#[allow(clippy::print_stdout, reason = "it prints statistics")]
mod simulator;
pub mod verified;
pub mod watch;
