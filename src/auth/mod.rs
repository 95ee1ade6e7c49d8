//! Authentication and authorization: from a bearer secret to a [`Caller`](crate::base::caller::Caller),
//! and from a caller to a [`Tenant`](crate::base::tenant::Tenant).

mod admission;
pub mod argon;
pub mod attempts;
pub mod bearer;
pub mod budget;
pub mod cache;
pub mod cpu_pool;
pub mod gate;
pub mod grant;
pub mod janitor;
pub mod keeper;
pub mod lease;
pub mod limits;
pub mod lookup_batch;
pub mod lookup_limits;
pub mod metrics;
pub mod node;
pub mod password;
pub mod password_rules;
mod retry;
#[cfg(test)]
#[allow(clippy::print_stdout, reason = "it prints statistics")]
mod simulator;
pub mod verified;
pub mod watch;
