//! Authentication and authorization: from a bearer secret to a [`Caller`](crate::base::identity::caller::Caller),
//! and from a caller to a [`Tenant`](crate::base::identity::tenant::Tenant).

pub mod bearer;
pub mod console;
pub mod credentials;
pub mod expired;
pub mod gate;
pub mod grant;
pub mod limits;
pub mod metrics;
pub mod passwords;
pub mod revocation;
pub mod watch;
